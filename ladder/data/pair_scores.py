"""Scores of a pair's answers: `score_chosen` and `score_rejected`.

The names follow UltraFeedback-binarized (Tunstall et al. 2023, arXiv:2310.16944).
"""

from ladder.data.jsonl import Row

SCORES = ("score_chosen", "score_rejected")


def scores(row: Row) -> list[float] | None:
    """Return [score_chosen, score_rejected], or None unless both are present.

    Errors: ValueError for a score that is not a number.
    """
    found = [row.get(name) for name in SCORES]
    for name, value in zip(SCORES, found, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name}: expected a number, got {value!r:.100}")
    return None if None in found else [float(value) for value in found if value is not None]
