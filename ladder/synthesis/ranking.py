"""Preference pairs from sampled answers, ranked by checks, by scores, or by a judge's pairwise comparison.

Samples are the rows of ladder.synthesis.rejection_sampling. The two answers of a pair differ. The chosen answer ended
by itself, because training on it teaches when to end. The rejected one has at least one word or a stop token; otherwise
there would be nothing to reject. A sample is in at most one pair.
"""

from collections.abc import Callable, Iterable
from itertools import combinations

from ladder.data.jsonl import Row
from ladder.judges.comparison import Side
from ladder.synthesis.pair_balancing import words
from ladder.synthesis.rejection_sampling import succeeded

Order = Callable[[Row, Row], tuple[float, float] | None]
"""Sort key of (better, worse) among a prompt's pairs, lowest first; None if the two do not form a pair."""


def by_checks(rows: list[Row], per_prompt: int) -> list[Row]:
    """Pairs of an answer that passes all its checks and one that does not.

    For each prompt, the pairs with the smallest length difference are used first, to reduce length as a cue.
    """

    def order(better: Row, worse: Row) -> tuple[float, float] | None:
        return (0, apart(better, worse)) if succeeded(better) and not succeeded(worse) else None

    return [pair(better, worse) for better, worse in matched(rows, order, per_prompt)]


def by_scores(rows: list[Row], per_prompt: int) -> list[Row]:
    """Pairs of the answers with the highest and the lowest `score` of a prompt (Meng et al. 2024, SimPO).

    SimPO: arXiv:2405.14734, section 3. Further pairs use the remaining answers in the same way. Among equal score
    differences, the smallest length difference comes first. Pairs with equal scores are returned too, so that they are
    dropped and counted with pairs below a margin.
    """

    def order(better: Row, worse: Row) -> tuple[float, float] | None:
        difference = better["score"] - worse["score"]
        return (-difference, apart(better, worse)) if difference >= 0 else None

    return [pair(better, worse) for better, worse in matched(rows, order, per_prompt)]


def contests(rows: list[Row], per_prompt: int) -> list[tuple[Row, Row]]:
    """Pairs of answers for a judge, smallest length difference first. The first answer of each ended by itself."""
    return matched(rows, lambda one, two: (0, apart(one, two)), per_prompt)


def by_verdicts(put: list[tuple[Row, Row]], sides: list[Side | None]) -> tuple[list[Row], dict[str, int]]:
    """Pairs with a preference in both orders, and counts of the other comparisons.

    The preferred answer must have ended. The counts are `ties`, `no_verdict` and `preferred_unfinished`.
    """
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
    """At most `per_prompt` pairs (better, worse) of each prompt, sorted by `order` and then by sample order."""
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
    """Whether the answer can be rejected: one truncated before its first word has neither words nor a stop token."""
    return bool(row["finished"] or words(row["completion"]))


def apart(one: Row, two: Row) -> int:
    """Difference in words between the lengths of two answers."""
    return abs(words(one["completion"]) - words(two["completion"]))


def pair(chosen: Row, rejected: Row) -> Row:
    """Row of TRL's preference type, with scores and aspects if the answers have them."""
    return {
        "id": chosen["id"],
        "chosen_edited": chosen["edited"],
        "rejected_finished": rejected["finished"],
        "prompt": chosen["prompt"],
        "chosen": chosen["completion"],
        "rejected": rejected["completion"],
        **dict(_details(chosen, rejected)),
    }


def _details(chosen: Row, rejected: Row) -> Iterable[tuple[str, object]]:
    for name in ("score", "aspects"):
        if name in chosen:
            yield f"{name}_chosen", chosen[name]
            yield f"{name}_rejected", rejected[name]
    for name in ("source", "model"):
        if name in chosen:
            yield name, chosen[name]
