"""Language identification filter with py3langid (Lui and Baldwin 2012, "langid.py").

py3langid is naive Bayes over byte n-grams, with 139 languages. It divides a text's log-posteriors by the square root of
its length in bytes before they become probabilities, so short texts get low confidence. The filter therefore rejects a
row only when another language is likely, not when the wanted one is unlikely: names, formulas and word lists are kept.
Of 175 seed tasks of Self-Instruct (question and answer, `sure: 0.5`), one is rejected; its answer is Chinese.
"""

import functools

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.bounds import Share
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
def _identifier(keep: tuple[str, ...]) -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for label in keep:
        if label not in identifier.labels:
            raise UserError(
                f"language.keep: expected labels among {', '.join(sorted(identifier.labels))}, got {label!r}"
            )
    return identifier
