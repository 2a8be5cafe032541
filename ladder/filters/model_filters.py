"""Filters that need a model or an optional dependency, imported only when a step uses one of them.

Each filter has its own module and follows the protocol of ladder/filters/basic.py. `__all__` lists the names that
params.yaml may use.
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
