"""Filters that stand on a model or on a package of an extra: imported only where a step names one of them.

They are written as ladder/filters/basic.py says, each in its own module; `__all__` is what params.yaml may name.
"""

from ladder.filters.embedding import k_center, semantic_duplicates
from ladder.filters.guard_models import guarded
from ladder.filters.judged import judged, rewarded
from ladder.filters.language import language
from ladder.filters.offensive import profanity
from ladder.filters.paraphrases import paraphrased
from ladder.filters.perplexity import perplexity
from ladder.filters.pii import personal, redact
from ladder.filters.token_length import token_length

__all__ = [
    "guarded",
    "judged",
    "k_center",
    "language",
    "paraphrased",
    "perplexity",
    "personal",
    "profanity",
    "redact",
    "rewarded",
    "semantic_duplicates",
    "token_length",
]
