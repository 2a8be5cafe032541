"""Which of a prompt's sampled answers is the better one: by its checks, by scores, or by a judge that compares two.

Samples are the rows of ladder.synthesis.rejection_sampling. A pair is of two answers that differ; chosen ended by
itself, since training on it teaches its end, and rejected has a first word or an end, or there would be nothing to
reject. A sample stands in one pair at most.
"""

from collections.abc import Callable, Iterable
from itertools import combinations

from ladder.data.jsonl import Row
from ladder.judges.bias import Side
from ladder.synthesis.pair_balancing import words
from ladder.synthesis.rejection_sampling import succeeded

Order = Callable[[Row, Row], tuple[float, float] | None]
"""Where (better, worse) stands among a prompt's pairs, the least first; None where the two are no such pair."""


def by_checks(rows: list[Row], per_prompt: int) -> list[Row]:
    """The better answer meets all its checks and the worse does not. Of a prompt's possible pairs those nearest in
    length come first, so that length alone does not tell chosen from rejected."""

    def order(better: Row, worse: Row) -> tuple[float, float] | None:
        return (0, apart(better, worse)) if succeeded(better) and not succeeded(worse) else None

    return [pair(better, worse) for better, worse in matched(rows, order, per_prompt)]


def by_scores(rows: list[Row], per_prompt: int) -> list[Row]:
    """Of a prompt's answers the one of the highest `score` with that of the lowest (Meng et al. 2024, SimPO,
    arXiv:2405.14734, section 3), then of those left likewise; nearest in length first where differences are equal.

    Equal scores come as pairs too, to be dropped and counted with those below a margin.
    """

    def order(better: Row, worse: Row) -> tuple[float, float] | None:
        difference = better["score"] - worse["score"]
        return (-difference, apart(better, worse)) if difference >= 0 else None

    return [pair(better, worse) for better, worse in matched(rows, order, per_prompt)]


def contests(rows: list[Row], per_prompt: int) -> list[tuple[Row, Row]]:
    """Pairs of answers to put to a judge, nearest in length first; the first of each ended by itself."""
    return matched(rows, lambda one, two: (0, apart(one, two)), per_prompt)


def by_verdicts(put: list[tuple[Row, Row]], sides: list[Side | None]) -> tuple[list[Row], dict[str, int]]:
    """The contests of which one answer was preferred in both orders, and ended; how many others there were of which
    sort."""
    made, counts = [], {"ties": sides.count("tie"), "no_verdict": sides.count(None), "preferred_unfinished": 0}
    for (one, two), side in zip(put, sides, strict=True):
        if side in ("one", "two"):
            better, worse = (one, two) if side == "one" else (two, one)
            if better["finished"]:
                made.append(pair(better, worse))
            else:
                counts["preferred_unfinished"] += 1
    return made, counts


def matched(rows: list[Row], order: Order, per_prompt: int) -> list[tuple[Row, Row]]:
    """At most `per_prompt` pairs (better, worse) of each prompt, as `order` has them, then as they were sampled."""
    of_prompt: dict[str, list[Row]] = {}
    for row in rows:
        of_prompt.setdefault(row["id"], []).append(row)
    return [two for group in of_prompt.values() for two in _matched(group, order)[:per_prompt]]


def _matched(group: list[Row], order: Order) -> list[tuple[Row, Row]]:
    possible = []
    for (i, one), (j, two) in combinations(enumerate(group), 2):
        for better, worse, first, second in ((one, two, i, j), (two, one, j, i)):
            if better["finished"] and rejectable(worse) and better["completion"] != worse["completion"]:
                place = order(better, worse)
                if place is not None:
                    possible.append((*place, first, second))
    used, found = set[int](), []
    for *_, first, second in sorted(possible):
        if not {first, second} & used:
            used |= {first, second}
            found.append((group[int(first)], group[int(second)]))
    return found


def rejectable(row: Row) -> bool:
    """Whether there is something to reject: an answer cut before its first word has neither words nor a stop token."""
    return bool(row["finished"] or words(row["completion"]))


def apart(one: Row, two: Row) -> int:
    """How many words lie between the lengths of two answers."""
    return abs(words(one["completion"]) - words(two["completion"]))


def pair(chosen: Row, rejected: Row) -> Row:
    """A row of TRL's preference type, with what ranked its answers where they were scored."""
    return {
        "id": chosen["id"],
        "chosen_edited": chosen["edited"],
        "rejected_finished": rejected["finished"],
        "prompt": chosen["prompt"],
        "chosen": chosen["completion"],
        "rejected": rejected["completion"],
        **dict(_told(chosen, rejected)),
    }


def _told(chosen: Row, rejected: Row) -> Iterable[tuple[str, object]]:
    for name in ("score", "aspects"):
        if name in chosen:
            yield f"{name}_chosen", chosen[name]
            yield f"{name}_rejected", rejected[name]
    for name in ("source", "model"):
        if name in chosen:
            yield name, chosen[name]
