"""Filters by small text classifiers: language and profanity.

`language` uses py3langid (Lui and Baldwin 2012, "langid.py"), naive Bayes over byte n-grams with 139 languages. It
divides a text's log-posteriors by the square root of its length in bytes before they become probabilities, so short
texts get low confidence. The filter therefore rejects a row only when another language is likely, not when the wanted
one is unlikely: names, formulas and word lists are kept. Of 175 seed tasks of Self-Instruct (question and answer,
`sure: 0.5`), one is rejected; its answer is Chinese.

`profanity` uses alt-profanity-check, a linear classifier over the words of a text, trained on 200,000 comments (Zhou
2019, "Building a better profanity detection library with scikit-learn"). It detects insults and swearing, not whether
an answer helps to do harm. For that, use a guard model (`guarded`, ladder/filters/guard_models.py).
"""

import functools
from typing import Any

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.config import Share
from ladder.pipeline.stage import UserError

NO_LANGUAGE = "zxx"
"""The model's label for numbers, code and other text without a language."""


def language(row: Row, *, part: Part, keep: list[str], sure: Share) -> str | None:
    """Reject rows whose most likely language is not in `keep` (ISO 639-1) and has a probability of at least `sure`.

    Errors: UserError for a language that the model does not support.
    """
    found, probability = _identifier(tuple(keep)).classify(said(row, part))
    return f"{found} {probability:.2f}" if found not in (*keep, NO_LANGUAGE) and probability >= sure else None


@functools.cache
def _identifier(keep: tuple[str, ...]) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # a step of another classifier needs no py3langid

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for label in keep:
        if label not in identifier.labels:
            raise UserError(
                f"language.keep: expected labels among {', '.join(sorted(identifier.labels))}, got {label!r}"
            )
    return identifier


def profanity(batch: list[Row], *, part: Part, max: Share) -> list[str | None]:
    """Keep rows whose predicted probability of profanity is at most `max`; the classifier's own threshold is 0.5."""
    from profanity_check import predict_prob  # importing it loads its model, which takes a second

    if not batch:
        return []
    scores = predict_prob([said(row, part) for row in batch]).tolist()
    return [None if score <= max else f"{score:.2f} offensive" for score in scores]
