"""Profanity filter with alt-profanity-check.

The model is a linear classifier over the words of a text, trained on 200,000 comments (Zhou 2019, "Building a better
profanity detection library with scikit-learn"). It detects insults and swearing, not whether an answer helps to do
harm. For that, use a guard model (`guarded`, ladder/filters/guard_models.py).
"""

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.bounds import Share


def profanity(batch: list[Row], *, part: Part, max: Share) -> list[str | None]:
    """Keep rows whose predicted probability of profanity is at most `max`; the classifier's own threshold is 0.5."""
    from profanity_check import predict_prob  # importing it loads its model, which takes a second

    if not batch:
        return []
    scores = predict_prob([said(row, part) for row in batch]).tolist()
    return [None if score <= max else f"{score:.2f} offensive" for score in scores]
