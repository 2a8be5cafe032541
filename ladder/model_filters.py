"""Filters that stand on a model or on a package of an extra: imported only where a step names one of them.

They are written as ladder/filters.py says, each in its own module; `__all__` is what params.yaml may name.
"""

from ladder.guards import guarded
from ladder.language import language
from ladder.paraphrases import paraphrased
from ladder.perplexity import perplexity
from ladder.personal import personal, redact
from ladder.quality import judged, rewarded
from ladder.safety import profanity
from ladder.semantic import k_center, semantic_duplicates
from ladder.token_length import token_length

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
