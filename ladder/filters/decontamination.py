"""Decontamination: reject rows that share n-grams with a benchmark text or repeat a whole question.

The benchmarks are the files that the benchmark stages read, so a new benchmark is covered without further setup. Every
text inside a benchmark's rows counts: questions, reference answers, tests. A row matches if the n-grams of
`ngram` words that it shares with a text cover enough of it (COVERS). Brown et al. 2020, appendix C, use 13 words;
Lambert et al. 2024, "Tulu 3", section 3.2, use 8.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ladder.data import wording
from ladder.data.jsonl import Row, read_rows
from ladder.data.turns import messages
from ladder.data.wording import texts, words
from ladder.filters.shingles import WORD_CHARACTERS, Hashes, HashSet, cut, mix, runs, windows
from ladder.pipeline.config import Share, Size
from ladder.pipeline.stage import UserError

COMMON = 10
"""Maximum number of texts of one benchmark that may contain an n-gram before it is ignored as a template.

An example of a template is "your answer must contain exactly ...". The number is from Brown et al., who ignore n-grams
that match more than 10 texts.
"""
COVERS = 0.3
"""Minimum share of a benchmark text's words that a row must contain to be rejected; boilerplate covers less.

GSM8K's train and test rows share no problem. If any shared n-gram counts, 816 of the 7473 training rows (10.9%) are
rejected; with 0.2, 202 (2.7%); with 0.3, 47 (0.6%); with 0.5, 8 (0.1%). A benchmark's prompt inside other words, or
without its last third, is found as often with 0.3 as with 0 (GSM8K, IFEval, MBPP). With 0.5, 13 of MBPP's 427 shortened
prompts are missed.
"""
SHORTEST = 3
"""Minimum number of words of a benchmark text for a whole-text match; "yes" or "New York" is too short."""
SHOWN = 40
"""Maximum number of words of a span in a rejection reason."""


class Index:
    """Index of the benchmarks' n-grams and whole texts.

    N-grams are looked up by hash (ladder/filters/shingles.py) and then compared word by word.
    """

    def __init__(self, benchmarks: Mapping[str, list[Row]], ngram: int, common: int = COMMON) -> None:
        self.ngram = ngram
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        """(benchmark, words) of every distinct text of a benchmark.

        A text repeated in every row (a joined list, a repeated sample) counts once, so its n-grams do not become
        templates.
        """
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
        """Sorted hashes of the n-grams that mark a row, [n-grams].

        `_texts` holds the index of each n-gram's text in `texts`, `_places` its first position in that text.
        """
        self._known = HashSet(self.hashes)

    def shingled(self, ngram: int) -> tuple[Hashes, NDArray[np.int64]]:
        """Hashes of every text's n-grams of `ngram` words, and their number per text; a shorter text has one."""
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
        """Return `in NAME: the words` for the first matching benchmark span in a row's turns; None if the row is clean.

        A match counts if the n-grams that the turn shares with the benchmark text cover at least `covers` of that
        text's words. A user turn that equals a whole benchmark text of at least SHORTEST words always counts.
        """
        for turn in messages(row):
            said = words(turn["content"])
            if turn["role"] == "user" and said in self.wholes:
                return _overlap(self.wholes[said], said)
            shared = self._shared(said) if len(said) >= self.ngram else {}
            if shared and (span := self._span(said, shared, covers)):
                return _overlap(*span)
        return None

    def _shared(self, said: tuple[str, ...]) -> dict[int, list[int]]:
        """Map the position of each n-gram found in benchmarks to the indices of the texts that contain it."""
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
        """(benchmark, words) of the first n-gram that counts, extended by the adjacent ones."""
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
    """Whether a value differs from the previous one; True for the first."""
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _overlap(name: str, span: tuple[str, ...]) -> str:
    more = f" ... ({len(span)} words)" if len(span) > SHOWN else ""
    return f"in {name}: {' '.join(span[:SHOWN])}{more}"


class Benchmarks(dict[str, list[Row]]):
    """Rows of every benchmark by name, with a cache for objects derived from all of them."""

    def __init__(self, rows: Mapping[str, list[Row]]) -> None:
        super().__init__(rows)
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Result of `make`, computed once per key."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def index(self, ngram: int, common: int = COMMON) -> Index:
        """Index of all benchmarks for these parameters, built once."""
        found: Index = self.once((ngram, common), lambda: Index(self, ngram, common))
        return found

    def questions(self) -> Iterator[tuple[str, str]]:
        """(benchmark, text) of every distinct text with at least SHORTEST words."""
        for name, rows in self.items():
            for text in dict.fromkeys(texts(rows)):
                if len(words(text)) >= SHORTEST:
                    yield name, text


def read_benchmarks(tasks: Path) -> Benchmarks:
    """Read all benchmark files of a folder.

    Errors: UserError when there is none, because decontamination without benchmarks would pass every row.
    """
    files = sorted(tasks.glob("*.jsonl"))
    if not files:
        raise UserError(f"{tasks}: no benchmark file (NAME.jsonl); expected at least one to compare the rows with")
    return Benchmarks({path.stem: read_rows(path) for path in files})


def decontaminate(
    row: Row, *, ngram: Size, common: Size = COMMON, covers: Share = COVERS, benchmarks: Benchmarks
) -> str | None:
    """Reject rows whose n-grams of `ngram` words cover at least the share `covers` of a benchmark text.

    Case and punctuation are ignored. A user turn that equals a whole benchmark text is rejected too.

    Two parameters control false positives. N-grams in more than `common` texts of a benchmark are templates and are
    ignored. A row is rejected only if it covers the share `covers` of the words of a benchmark text (Lambert et al. use
    0.5 of a question). With `covers: 0` one shared n-gram is enough: GSM8K's train and test rows share no problem, but
    11% of them share 8-grams. With the default 0.6% are rejected.
    """
    return benchmarks.index(ngram, common).found(row, covers)
