"""Context length of models in tokens, and selection of rows that fit in it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladder.pipeline.stage import UserError

NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
"""Configuration keys that hold the maximum number of positions."""
EXTENDED = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional"})
"""Types of rotary scaling for which max_position_embeddings is already the scaled length."""


def context_length(config: Any) -> int | None:
    """Return the maximum sequence length in tokens, including rotary scaling; None for a model without a limit.

    `linear` and `dynamic` scaling multiply the number of positions. `yarn` multiplies the original number of
    positions if the configuration has it. vLLM reads configurations in the same way.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = [getattr(text, name, None) for name in NAMES]
    positions = next((number for number in found if isinstance(number, int) and number > 0), None)
    if positions is None or getattr(text, "alibi", False) is True:
        return None
    return max(positions, *(_scaled(positions, scaling) for scaling in _scalings(text)), 0)


def _scalings(config: Any) -> list[dict[str, Any]]:
    """Return the rotary scaling of the configuration, or of each of its layer types."""
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kinds = [scaling, *scaling.values()]
    return [kind for kind in kinds if isinstance(kind, dict) and "factor" in kind]


def _scaled(positions: int, scaling: dict[str, Any]) -> int:
    kind, factor = scaling.get("rope_type") or scaling.get("type") or "default", scaling["factor"] or 1
    if kind in EXTENDED:
        return positions
    original = scaling.get("original_max_position_embeddings") if kind == "yarn" else None
    return int((original or positions) * factor)


def within(max_length: int | None, *models: Any) -> int | None:
    """Return the minimum of `max_length` and the models' context lengths; None if nothing limits a row."""
    limits = [limit for limit in (max_length, *(context_length(model.config) for model in models)) if limit is not None]
    return min(limits, default=None)


def fitting_prompts(lengths: Sequence[int], answer: int, data: Path, *models: Any) -> list[int]:
    """Return indices of the prompts that leave room for `answer` tokens. lengths: prompt lengths in tokens.

    Errors: UserError when no prompt does.
    """
    limit = within(None, *models)
    kept = [index for index, length in enumerate(lengths) if limit is None or length + answer <= limit]
    if lengths and not kept:
        raise UserError(
            f"{data}: none of {len(lengths)} prompts leaves room for an answer of {answer} tokens in the model's "
            f"context of {limit}. Use shorter prompts, or allow shorter answers."
        )
    return kept


def report(stage: str, **counts: int) -> dict[str, int]:
    """Return the counts above 0, for the metrics, and print each to stderr: `sft: empty_answer: 3 left out`."""
    found = {name: count for name, count in counts.items() if count}
    for name, count in found.items():
        print(f"{stage}: {name}: {count} left out", file=sys.stderr, flush=True)
    return found
