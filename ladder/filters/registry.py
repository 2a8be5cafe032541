"""Names of the filters that need a model or an optional dependency, with the module of each.

A step imports the module of its own filter alone. The stage `code` reads this table, so that an entry of `filter`
depends on the code of the model filters that its steps name, and on no other (stages/code.py).
"""

from typing import Any

MODEL_FILTERS = {
    "guarded": "guard_models",
    "judged": "judged",
    "k_center": "embedding",
    "language": "classifiers",
    "paraphrased": "embedding",
    "perplexity": "model_scores",
    "personal": "pii",
    "profanity": "classifiers",
    "redact": "pii",
    "rewarded": "model_scores",
    "semantic_duplicates": "embedding",
    "token_length": "model_scores",
}
"""Filter name to its module in ladder/filters/."""


def model_modules(entry: Any) -> list[str]:
    """Return the modules of the model filters that an entry of `filter` names; none for an invalid entry."""
    steps = entry.get("steps") if isinstance(entry, dict) else None
    names = {name for step in (steps if isinstance(steps, list) else []) if isinstance(step, dict) for name in step}
    return sorted({MODEL_FILTERS[name] for name in names & MODEL_FILTERS.keys()})
