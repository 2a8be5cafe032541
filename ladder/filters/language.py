"""Language: rows in the languages that are to be learned, by py3langid (Lui and Baldwin 2012, "langid.py").

Naive Bayes over byte n-grams, 139 languages; a text's log-posteriors are divided by the square root of its bytes
before they become probabilities, so that a short text is called sure of little. That is why a row goes for another
language that is likely, and not for want of its own: names, formulas and lists of words stay. Of 175 seed tasks of
Self-Instruct (question and answer, `sure: 0.5`) one goes, whose answer is Chinese.
"""

import functools

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from ladder.data.jsonl import Row
from ladder.data.turns import Part, said
from ladder.pipeline.bounds import Share
from ladder.pipeline.stage import UserError

NO_LANGUAGE = "zxx"
"""The model's label for numbers, code and the like."""


def language(row: Row, *, part: Part, keep: list[str], sure: Share) -> str | None:
    """A row goes when its likeliest language is none of `keep` (ISO 639-1) and has a probability of `sure` or more.

    Errors: UserError for a language that the model does not know.
    """
    found, probability = _identifier(tuple(keep)).classify(said(row, part))
    return f"{found} {probability:.2f}" if found not in (*keep, NO_LANGUAGE) and probability >= sure else None


@functools.cache
def _identifier(keep: tuple[str, ...]) -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    for label in keep:
        if label not in identifier.labels:
            raise UserError(f"language.keep: {label!r} is none of {', '.join(sorted(identifier.labels))}")
    return identifier
