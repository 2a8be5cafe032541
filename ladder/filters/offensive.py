"""Safety: offensive wording, by alt-profanity-check.

A linear model over the words of a text, trained on 200,000 comments (Zhou 2019, "Building a better profanity detection
library with scikit-learn"). It knows insults and swearing, not whether an answer helps to do harm: for that, give the
rows to a guard model (`guarded`, ladder/filters/guard_models.py).
"""

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.bounds import Share


def profanity(batch: list[Row], *, part: Part, most: Share) -> list[str | None]:
    """The probability of being offensive is at most `most`; 0.5 is where the model decides."""
    from profanity_check import predict_prob  # loads its model, which takes a second

    if not batch:
        return []
    scores = predict_prob([said(row, part) for row in batch]).tolist()
    return [None if score <= most else f"{score:.2f} offensive" for score in scores]
