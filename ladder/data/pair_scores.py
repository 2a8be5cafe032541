"""The scores of a pair's answers: `score_chosen` and `score_rejected`, named as in UltraFeedback-binarized (Tunstall et
al. 2023, arXiv:2310.16944)."""

from ladder.data.jsonl import Row

SCORES = ("score_chosen", "score_rejected")


def scores(row: Row) -> list[float] | None:
    """[score_chosen, score_rejected]; None where they do not both stand. Errors: ValueError for one that is no
    number."""
    found = [row.get(name) for name in SCORES]
    for name, value in zip(SCORES, found, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"{name}: expected a number, got {value!r:.100}")
    return None if None in found else [float(value) for value in found if value is not None]
