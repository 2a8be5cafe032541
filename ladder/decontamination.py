"""Rows that say what a benchmark says: runs of its words, and whole questions of it.

The benchmarks are the files that the benchmark stages read, so that a benchmark added is a benchmark kept clear of.
Every text inside a benchmark's rows counts: questions, reference answers, tests. A run of `ngram` words that is found
in a row marks it (Brown et al. 2020, appendix C, with 13 words; Lambert et al. 2024, "Tulu 3", section 3.2, with 8).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ladder.rows import Row, read_rows
from ladder.run import Refused
from ladder.wording import messages, runs, texts, words

COMMON = 10
"""A run of words that stands in more texts of one benchmark than this is a template of it ("your answer must contain
exactly ..."), and marks nothing (the number is Brown et al.'s, who leave out n-grams that match more than 10 texts)."""
SHORTEST = 3
"""A benchmark's text of fewer words ("yes", "New York") is no question to be found by."""
SHOWN = 40
"""Words of a span that a reason shows."""


class Index:
    """Where each run of `ngram` words stands, and each text as a whole."""

    def __init__(self, benchmarks: Mapping[str, list[Row]], ngram: int, common: int = COMMON) -> None:
        self.ngram = ngram
        self.texts: list[tuple[str, tuple[str, ...]]] = []
        self.runs: dict[tuple[str, ...], int | list[int]] = {}
        """By the run, the text that it stands in, or the texts: by their places in `texts`."""
        self.wholes: dict[tuple[str, ...], str] = {}
        self.templates: set[tuple[str, ...]] = set()
        vocabulary: dict[str, str] = {}
        for name, rows in benchmarks.items():
            # What stands in every row (a joined list, a sample repeated) is one text and no template.
            said = dict.fromkeys(
                tuple(vocabulary.setdefault(word, word) for word in words(text)) for text in texts(rows)
            )
            found = Counter(run for text in said for run in set(runs(text, ngram)))
            self.templates |= {run for run, count in found.items() if count > common}
            for text in said:
                self._add(name, text)
        for run in self.templates:
            del self.runs[run]
        self._part = ngram * 5 // 8 or 1
        self._stride = ngram - self._part + 1
        # Hashes suffice: what they let through by chance is looked up in `runs`.
        self._parts = {hash(part) for run in self.runs for part in runs(run, self._part)}

    def _add(self, name: str, text: tuple[str, ...]) -> None:
        if len(text) >= SHORTEST:
            self.wholes.setdefault(text, name)
        for run in dict.fromkeys(runs(text, self.ngram)):
            known = self.runs.setdefault(run, len(self.texts))
            if known != len(self.texts):
                self.runs[run] = [*known, len(self.texts)] if isinstance(known, list) else [known, len(self.texts)]
        self.texts.append((name, text))

    def found(self, row: Row, covers: float = 0.0) -> str | None:
        """`in NAME: the words` for the first span of a benchmark in a row's turns; None when it is clear.

        A span counts when the runs that the turn shares with the benchmark's text hold at least `covers` of the
        text's words.
        """
        for turn in messages(row):
            said = words(turn["content"])
            if turn["role"] == "user" and said in self.wholes:
                return _told(self.wholes[said], said)
            if self._clear(said) or self.runs.keys().isdisjoint(runs(said, self.ngram)):
                continue
            if span := self._span(said, covers):
                return _told(*span)
        return None

    def _clear(self, said: tuple[str, ...]) -> bool:
        """Whether no run can stand in a text: any run of 8 words holds a part of 5 that starts at a multiple of 4."""
        parts = zip(*(said[start :: self._stride] for start in range(self._part)), strict=False)
        return self._parts.isdisjoint(map(hash, parts))

    def _span(self, said: tuple[str, ...], covers: float) -> tuple[str, tuple[str, ...]] | None:
        """(benchmark, words) of the first run that counts, with those that follow it without a gap."""
        shared = list(runs(said, self.ngram))
        counts: dict[int, bool] = {}
        places = set()
        for place, run in enumerate(shared):
            if (known := self.runs.get(run)) is not None:
                for text in known if isinstance(known, list) else [known]:
                    if text not in counts:
                        counts[text] = self._coverage(text, set(shared)) >= covers
                    if counts[text]:
                        places.add(place)
        if not places:
            return None
        first = last = min(places)
        while last + 1 in places:
            last += 1
        known = self.runs[shared[first]]
        text = next(text for text in (known if isinstance(known, list) else [known]) if counts[text])
        return self.texts[text][0], said[first : last + self.ngram]

    def _coverage(self, text: int, shared: set[tuple[str, ...]]) -> float:
        said = self.texts[text][1]
        held: set[int] = set()
        for start, run in enumerate(runs(said, self.ngram)):
            if run in shared:
                held.update(range(start, start + self.ngram))
        return len(held) / len(said)


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
    """The benchmarks' files in a folder. Errors: Refused when there is none: a gate without them is no gate."""
    files = sorted(tasks.glob("*.jsonl"))
    if not files:
        raise Refused(f"{tasks}: no benchmark's file (NAME.jsonl); nothing to keep the rows clear of")
    return Benchmarks({path.stem: read_rows(path) for path in files})


def decontaminate(
    row: Row, *, ngram: int, common: int = COMMON, covers: float = 0.0, benchmarks: Benchmarks
) -> str | None:
    """No run of `ngram` words, case and punctuation aside, stands in a benchmark's rows, and no user's turn is a whole
    text of one.

    Two controls of false alarms: runs that stand in more than `common` texts of a benchmark are templates and mark
    nothing, and with `covers` a row goes only when it holds that share of the words of a benchmark's text (Lambert et
    al. take 0.5 of a question). Without them a run in common is enough: train and test of GSM8K, which share no
    problem, then share runs of 8 words in 11% of the rows.
    """
    return benchmarks.index(ngram, common).found(row, covers)
