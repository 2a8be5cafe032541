"""Rows that say what a benchmark says: runs of its words, and whole questions of it.

The benchmarks are the files that the benchmark stages read, so that a benchmark added is a benchmark kept clear of.
Every text inside a benchmark's rows counts: questions, reference answers, tests. A run of `ngram` words that is found
in a row marks it (Brown et al. 2020, appendix C, with 13 words; Lambert et al. 2024, "Tulu 3", section 3.2, with 8).
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.data import wording
from ladder.data.jsonl import Row, read_rows
from ladder.data.wording import messages, texts, words
from ladder.filters.shingles import WORD_CHARACTERS, Hashes, HashSet, cut, mix, runs, windows
from ladder.pipeline.bounds import Share, Size
from ladder.pipeline.stage import UserError

COMMON = 10
"""A run of words that stands in more texts of one benchmark than this is a template of it ("your answer must contain
exactly ..."), and marks nothing (the number is Brown et al.'s, who leave out n-grams that match more than 10 texts)."""
COVERS = 0.3
"""The share of a benchmark's text that a row must hold to be marked; boilerplate holds less.

GSM8K's train and test rows share no problem. With any run in common, 816 of the 7473 training rows (10.9%) are marked;
with 0.2, 202 (2.7%); with 0.3, 47 (0.6%); with 0.5, 8 (0.1%). A benchmark's prompt inside other words, or without its
last third, is found as often with 0.3 as with 0 (GSM8K, IFEval, MBPP); with 0.5, 13 of MBPP's 427 shortened prompts are
lost."""
SHORTEST = 3
"""A benchmark's text of fewer words ("yes", "New York") is no question to be found by."""
SHOWN = 40
"""Words of a span that a reason shows."""


class Index:
    """Where each run of `ngram` words stands, and each text as a whole. Runs are found by their hashes
    (ladder/filters/shingles.py), and then held to the words themselves."""

    def __init__(self, benchmarks: Mapping[str, list[Row]], ngram: int, common: int = COMMON) -> None:
        self.ngram = ngram
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        """(benchmark, words); what stands in every row (a joined list, a sample repeated) is one text, no template."""
        vocabulary: dict[str, str] = {}
        for name, rows in benchmarks.items():
            said = (tuple(vocabulary.setdefault(word, word) for word in words(text)) for text in texts(rows))
            self.texts += ((name, text) for text in dict.fromkeys(said))
        hashes = cut(list(vocabulary), WORD_CHARACTERS).hashes
        self._words = dict(zip(vocabulary, hashes.tolist(), strict=True))
        self.wholes: dict[tuple[str, ...], str] = {}
        for name, text in self.texts:
            if len(text) >= SHORTEST:
                self.wholes.setdefault(text, name)
        self.hashes, self._texts, self._places = self._runs(list(benchmarks), common)
        """Of the runs that mark a row, sorted, [runs]; the text of each by its place in `texts`, and where it stands
        there first."""
        self._known = HashSet(self.hashes)

    def shingled(self, ngram: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Hashes of every text's runs of `ngram` words, and how many it has; of a shorter text its own."""
        counts = np.array([len(text) for _, text in self.texts], np.int64)
        hashes = (self._words[word] for _, text in self.texts for word in text)
        return runs(np.fromiter(hashes, np.uint64, counts.sum()), counts, ngram)

    def _runs(self, names: list[str], common: int) -> tuple[Hashes, NDArray[np.int64], NDArray[np.int64]]:
        hashes, counts = self.shingled(self.ngram)
        texts = np.repeat(np.arange(len(counts)), counts)
        places = np.arange(len(hashes)) - np.repeat(np.cumsum(counts) - counts, counts)
        long = np.array([len(text) >= self.ngram for _, text in self.texts], np.bool_)[texts]
        hashes, texts, places = hashes[long], texts[long], places[long]
        order = np.argsort(hashes, kind="stable")
        hashes, texts, places = hashes[order], texts[order], places[order]
        first = _changes(hashes) | _changes(texts)
        hashes, texts, places = hashes[first], texts[first], places[first]
        benchmark = np.array([names.index(name) for name, _ in self.texts], np.int64)[texts]
        starts = np.flatnonzero(_changes(hashes) | _changes(benchmark))
        templates = hashes[starts[np.diff(starts, append=len(hashes)) > common]]
        marks = ~np.isin(hashes, templates)
        return hashes[marks], texts[marks], places[marks]

    def found(self, row: Row, covers: float = 0.0) -> str | None:
        """`in NAME: the words` for the first span of a benchmark in a row's turns; None when it is clear.

        A span counts when the runs that the turn shares with the benchmark's text hold at least `covers` of the
        text's words.
        """
        for turn in messages(row):
            said = words(turn["content"])
            if turn["role"] == "user" and said in self.wholes:
                return _told(self.wholes[said], said)
            shared = self._shared(said) if len(said) >= self.ngram else {}
            if shared and (span := self._span(said, shared, covers)):
                return _told(*span)
        return None

    def _shared(self, said: tuple[str, ...]) -> dict[int, list[int]]:
        """By the place of a run that stands in benchmarks, the texts that it stands in."""
        hashes = mix(windows(np.array([self._words.get(word, 0) for word in said], np.uint64), self.ngram))
        found = np.flatnonzero(self._known.has(hashes))
        firsts = self.hashes.searchsorted(hashes[found]).tolist()
        ends = self.hashes.searchsorted(hashes[found], "right").tolist()
        shared = {}
        for place, first, end in zip(found.tolist(), firsts, ends, strict=True):
            run = said[place : place + self.ngram]
            standing = zip(self._texts[first:end], self._places[first:end], strict=True)
            if same := [int(text) for text, at in standing if self.texts[text][1][at : at + self.ngram] == run]:
                shared[place] = same
        return shared

    def _span(
        self, said: tuple[str, ...], shared: dict[int, list[int]], covers: float
    ) -> tuple[str, tuple[str, ...]] | None:
        """(benchmark, words) of the first run that counts, with those that follow it without a gap."""
        run = set(wording.runs(said, self.ngram))
        several = set[int]().union(*shared.values())
        counts = {text for text in several if covers <= 0 or self._coverage(text, run) >= covers}
        places = {place for place, standing in shared.items() if not counts.isdisjoint(standing)}
        if not places:
            return None
        first = last = min(places)
        while last + 1 in places:
            last += 1
        text = next(text for text in shared[first] if text in counts)
        return self.texts[text][0], said[first : last + self.ngram]

    def _coverage(self, text: int, shared: set[tuple[str, ...]]) -> float:
        said = self.texts[text][1]
        held: set[int] = set()
        for start, run in enumerate(wording.runs(said, self.ngram)):
            if run in shared:
                held.update(range(start, start + self.ngram))
        return len(held) / len(said)


def _changes(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which differ from the one before."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _told(name: str, span: tuple[str, ...]) -> str:
    more = f" ... ({len(span)} words)" if len(span) > SHOWN else ""
    return f"in {name}: {' '.join(span[:SHOWN])}{more}"


class Benchmarks(dict[str, list[Row]]):
    """Every benchmark's rows by its name; what is made of all of them is made once."""

    def __init__(self, rows: Mapping[str, list[Row]]) -> None:
        super().__init__(rows)
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """What `make` made when the key was first asked for."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def index(self, ngram: int, common: int = COMMON) -> Index:
        found: Index = self.once((ngram, common), lambda: Index(self, ngram, common))
        return found

    def questions(self) -> Iterator[tuple[str, str]]:
        """(benchmark, text) of every different text that is long enough to be found by."""
        for name, rows in self.items():
            for text in dict.fromkeys(texts(rows)):
                if len(words(text)) >= SHORTEST:
                    yield name, text


def read_benchmarks(tasks: Path) -> Benchmarks:
    """The benchmarks' files in a folder. Errors: UserError when there is none: a gate without them is no gate."""
    files = sorted(tasks.glob("*.jsonl"))
    if not files:
        raise UserError(f"{tasks}: no benchmark's file (NAME.jsonl); nothing to keep the rows clear of")
    return Benchmarks({path.stem: read_rows(path) for path in files})


def decontaminate(
    row: Row, *, ngram: Size, common: Size = COMMON, covers: Share = COVERS, benchmarks: Benchmarks
) -> str | None:
    """The row's runs of `ngram` words, case and punctuation aside, hold less than the share `covers` of every text of a
    benchmark, and no user's turn is a whole text of one.

    Two controls of false alarms: runs that stand in more than `common` texts of a benchmark are templates and mark
    nothing, and a row is rejected only where it holds the share `covers` of the words of a benchmark's text (Lambert et
    al. take 0.5 of a question). With `covers: 0` one run in common is enough: GSM8K's train and test rows, which share
    no problem, then share runs of 8 words in 11% of the rows, with the default in 0.6%.
    """
    return benchmarks.index(ngram, common).found(row, covers)
