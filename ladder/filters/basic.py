"""Filters: plain functions that say of a row why it goes, or None when it stays.

The name of a filter's first parameter says what it sees, the rest is what params.yaml gives it:

    f(row, *, ...) -> str | None              one row
    f(batch, *, ...) -> list[str | None]      rows in any batches, each judged alone: models and arrays. The verdicts
                                              are remembered by the row's content, so that a second run is cheap
    f(rows, *, ...) -> Iterable[str | None]   all rows still in, in order and as often as it likes: they lie on disk,
                                              and it keeps a hash or a signature of each, never the rows
    f(text, *, ...) -> str                    no verdict: what every message's text becomes

Filters that judge an answer (its checks, length, form, refusal, grade) read it without its reasoning
(ladder.verifiers.reasoning). `exact`, `near_duplicates`, `decontaminate` and the filters of languages, names and
offensive wording read the whole text. No filter cuts the reasoning from a row.

A filter that asks for `benchmarks` gets the benchmarks' rows, for `model` the entry's model, for `base` the base
model's rung. A reason is short and names the span or the number. `__all__` is what params.yaml may name, with that
of ladder/filters/model_filters.py. A filter that sees one row may have a screen of the same name and parameters in
ladder/filters/prefilter.py, which spares it the rows that it surely keeps; one that sees all rows may have a sketch of
them in ladder/filters/signatures.py, which spares it reading them.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from ladder.data.jsonl import Row
from ladder.data.wording import WORD as WORD
from ladder.data.wording import answer, reply, runs, vocabulary, words
from ladder.filters import signatures
from ladder.filters.decontamination import decontaminate
from ladder.filters.gopher import (
    alphabetic,
    boilerplate,
    bullets,
    duplicate_lines,
    duplicate_ngrams,
    duplicate_paragraphs,
    ellipses,
    refusal,
    stop_words,
    symbols,
    top_ngrams,
    word_length,
)
from ladder.filters.minhash_dedup import near_duplicates
from ladder.pipeline.bounds import Number, Share, Size
from ladder.pipeline.stage import UserError
from ladder.verifiers.constraints import meets
from ladder.verifiers.reasoning import strip_reasoning

__all__ = [
    "alphabetic",
    "best",
    "boilerplate",
    "bullets",
    "decontaminate",
    "duplicate_lines",
    "duplicate_ngrams",
    "duplicate_paragraphs",
    "ellipses",
    "exact",
    "finished",
    "length",
    "near_duplicates",
    "refusal",
    "repetition",
    "stop_words",
    "symbols",
    "top_ngrams",
    "verified",
    "word_length",
]


def _value(row: Row, name: str, kind: type, where: str = "") -> object:
    if not isinstance(row.get(name), kind):
        raise UserError(f"{where}expected {name!r} of type {kind.__name__}, got {row.get(name)!r}")
    return row[name]


def finished(row: Row) -> str | None:
    """The answer ended by itself, or was edited to an end; its reasoning ended too."""
    if not _value(row, "finished", bool):
        return "not finished"
    turns = row.get("completion") or row.get("chosen") or row.get("messages") or ()
    ended = all(strip_reasoning(turn["content"]).finished for turn in turns if turn["role"] == "assistant")
    return None if ended else "reasoning not finished"


def verified(row: Row) -> str | None:
    """The answer meets every check of its prompt."""
    _value(row, "checks", list)
    verdicts = meets(reply(row), row["checks"])  # which reads the answer without its reasoning
    missed = [check["kind"] for check, met in zip(row["checks"], verdicts, strict=True) if not met]
    return f"misses {', '.join(missed)}" if missed else None


def length(row: Row, *, least: Number, most: Number) -> str | None:
    """The answer has `least` to `most` words."""
    count = len(words(answer(row)))
    return None if least <= count <= most else f"{count} words"


def repetition(row: Row, *, ngram: Size, most: Share) -> str | None:
    """At most a share `most` of the answer's words stands in runs of `ngram` words that it has already said
    (Rae et al. 2021, "Gopher", table A1: duplicate n-grams)."""
    text = answer(row)
    said = words(text)
    if (len(said) - len(vocabulary(text))) * ngram <= most * len(said):  # a word's first time begins a new run
        return None
    again = max(0, len(said) - ngram + 1) - len(set(runs(said, ngram)))
    if again * ngram <= most * len(said):  # were no two of those runs to overlap
        return None
    share = _repeated(said, ngram)
    return None if share <= most else f"{share:.0%} repeated"


def _repeated(said: tuple[str, ...], ngram: int) -> float:
    seen: set[tuple[str, ...]] = set()
    repeated: set[int] = set()
    for start, run in enumerate(runs(said, ngram)):
        if run in seen:
            repeated.update(range(start, start + ngram))
        seen.add(run)
    return len(repeated) / max(1, len(said))


def exact(rows: Iterable[Row]) -> Iterator[str | None]:
    """The same messages by the same speakers, but for case and blanks, stand once: the first time. Of pairs the
    rejected answer counts too. Keeps 16 bytes of sha256 a row."""
    keys = np.concatenate([np.zeros((0, 2), np.uint64), *signatures.sketched(rows, signatures.exact)])
    order = np.lexsort(keys.T)
    again = np.zeros(len(keys), np.bool_)
    again[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    return ("duplicate" if one else None for one in again)


def best(rows: Iterable[Row], *, per_prompt: Size) -> Iterator[str | None]:
    """Of a prompt's answers (rows of one `id`) the best stay: those met without an edit first, then the longer ones."""
    ranked: dict[str, list[tuple[bool, int, int]]] = {}
    count = 0
    for index, row in enumerate(rows):
        where = f"best: row {index + 1} of those left: "
        group = ranked.setdefault(str(_value(row, "id", str, where)), [])
        group.append((bool(_value(row, "edited", bool, where)), -len(words(answer(row))), index))
        group.sort()
        del group[per_prompt:]
        count += 1
    kept = {index for group in ranked.values() for _, _, index in group}
    return (None if index in kept else "not the best of its prompt" for index in range(count))
