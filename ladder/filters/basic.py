"""Filter functions: each returns the reason to reject a row, or None to keep it.

The name of a filter's first parameter declares its input. Keyword-only parameters come from params.yaml:

    f(row, *, ...) -> str | None              one row
    f(batch, *, ...) -> list[str | None]      a batch of rows, each judged alone, for models and vectorized code.
                                              Verdicts are cached by row content, so a second run is cheap
    f(rows, *, ...) -> Iterable[str | None]   all remaining rows in order, iterable several times. Rows stay on disk;
                                              the filter holds a hash or a signature per row, never the rows
    f(text, *, ...) -> str                    no verdict: the new text of every message

The answer of a row is defined in ladder/data/turns.py. Filters that judge it (its checks, length, form, refusal, grade)
read it without its reasoning (ladder.verifiers.reasoning). `exact`, `near_duplicates`, `decontaminate` and the filters
for languages, names and offensive wording read the whole text. No filter removes reasoning from a row.

Some parameters come from the stage instead: `benchmarks` (the benchmarks' rows), `model` (the entry's model) and `base`
(the base model's rung). A reason is short and contains the span or the number that led to it. params.yaml may use the
names in `__all__` here and those of ladder/filters/registry.py.

A filter that sees one row may have a vectorized pre-filter of the same name and parameters in
ladder/filters/prefilter.py, which spares it rows that are guaranteed to pass. A filter that sees all rows may have a
sketch function in ladder/filters/signatures.py, which spares it reading the rows.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from ladder.data.jsonl import Row
from ladder.data.turns import answer, answer_turns, answers
from ladder.data.wording import WORD as WORD
from ladder.data.wording import runs, vocabulary, words
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
from ladder.pipeline.config import Number, Share, Size
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
    """Keep answers that ended by themselves or were edited to an end, and whose reasoning ended too."""
    if not _value(row, "finished", bool):
        return "not finished"
    ended = all(strip_reasoning(turn["content"]).finished for turn in answer_turns(row))
    return None if ended else "reasoning not finished"


def verified(row: Row) -> str | None:
    """Keep answers that pass every check of their prompt.

    A row's verdict `passed` is computed once, where the answer is sampled or its text changes. Without it, the last
    turn of the answer is checked, which the last prompt asks for.
    """
    _value(row, "checks", list)
    if "passed" in row:
        verdicts = row["passed"]
        if not isinstance(verdicts, list) or list(map(type, verdicts)) != [bool] * len(row["checks"]):
            raise UserError(f"passed: expected one of true and false for each check, got {verdicts!r:.100}")
    else:
        verdicts = meets((answers(row) or [""])[-1], row["checks"])
    missed = [check["kind"] for check, met in zip(row["checks"], verdicts, strict=True) if not met]
    return f"misses {', '.join(missed)}" if missed else None


def length(row: Row, *, min: Number, max: Number) -> str | None:
    """Keep answers of `min` to `max` words."""
    count = len(words(answer(row)))
    return None if min <= count <= max else f"{count} words"


def repetition(row: Row, *, ngram: Size, max: Share) -> str | None:
    """Keep answers in which at most the share `max` of the words is inside repeated n-grams of `ngram` words.

    An n-gram is repeated if it occurred earlier in the answer (Rae et al. 2021, "Gopher", table A1: duplicate n-grams).
    """
    text = answer(row)
    said = words(text)
    if (len(said) - len(vocabulary(text))) * ngram <= max * len(said):  # bound: new words start new n-grams
        return None
    again = _positions(said, ngram) - len(set(runs(said, ngram)))
    if again * ngram <= max * len(said):  # bound: as if no two repeated n-grams overlapped
        return None
    share = _repeated(said, ngram)
    return None if share <= max else f"{share:.0%} repeated"


def _positions(said: tuple[str, ...], ngram: int) -> int:
    """Return the number of n-grams in a text, counting repeated ones."""
    return max(0, len(said) - ngram + 1)


def _repeated(said: tuple[str, ...], ngram: int) -> float:
    seen: set[tuple[str, ...]] = set()
    repeated: set[int] = set()
    for start, run in enumerate(runs(said, ngram)):
        if run in seen:
            repeated.update(range(start, start + ngram))
        seen.add(run)
    return len(repeated) / max(1, len(said))


def exact(rows: Iterable[Row]) -> Iterator[str | None]:
    """Reject exact duplicates, ignoring case and whitespace, except the first.

    Two rows are duplicates if their messages and roles are equal. For preference pairs this includes the rejected
    answer. Memory: 16 bytes of sha256 per row.
    """
    keys = np.concatenate([np.zeros((0, 2), np.uint64), *signatures.sketched(rows, signatures.exact)])
    order = np.lexsort(keys.T)
    again = np.zeros(len(keys), np.bool_)
    again[order[1:]] = (keys[order[1:]] == keys[order[:-1]]).all(axis=1)
    return ("duplicate" if one else None for one in again)


def best(rows: Iterable[Row], *, per_prompt: Size) -> Iterator[str | None]:
    """Keep the best `per_prompt` answers of each prompt (rows with one `id`): unedited ones first, then longer ones."""
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
