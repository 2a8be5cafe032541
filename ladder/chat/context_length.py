"""How many tokens a model can read: its context, and rows that do not fit in it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladder.pipeline.stage import UserError

NAMES = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "seq_length", "n_ctx")
"""Names under which configurations hold the number of positions that a model was made for."""
EXTENDED = frozenset({"default", "llama3", "longrope", "su", "mrope", "proportional"})
"""Kinds of rotary scaling with which max_position_embeddings is the scaled length already."""


def context_length(config: Any) -> int | None:
    """The longest conversation in tokens, that of scaled rotary embeddings included; None for a model without a limit.

    `linear` and `dynamic` scaling multiply the number of positions; `yarn` multiplies the original number where the
    configuration holds it. vLLM reads configurations in the same way.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = [getattr(text, name, None) for name in NAMES]
    positions = next((number for number in found if isinstance(number, int) and number > 0), None)
    if positions is None or getattr(text, "alibi", False) is True:
        return None
    return max(positions, *(_scaled(positions, scaling) for scaling in _scalings(text)), 0)


def _scalings(config: Any) -> list[dict[str, Any]]:
    """The rotary scaling of the configuration, or of each kind of its layers."""
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
    """`max_length`, or the shortest context of the models where that is less; None where nothing limits a row."""
    limits = [limit for limit in (max_length, *(context_length(model.config) for model in models)) if limit is not None]
    return min(limits, default=None)


def fitting_prompts(lengths: Sequence[int], answer: int, data: Path, *models: Any) -> list[int]:
    """Indices of the prompts, of these lengths in tokens, that leave room for an answer of `answer` tokens.

    Errors: UserError when none does.
    """
    limit = within(None, *models)
    kept = [index for index, length in enumerate(lengths) if limit is None or length + answer <= limit]
    if lengths and not kept:
        raise UserError(
            f"{data}: none of {len(lengths)} prompts leaves room for an answer of {answer} tokens in the model's "
            f"context of {limit}; give shorter prompts or allow shorter answers"
        )
    return kept


def report(stage: str, **counts: int) -> dict[str, int]:
    """The counts above 0, for the metrics; each is also printed to stderr: `sft: 3 rows with empty_answer left out`."""
    found = {name: count for name, count in counts.items() if count}
    for name, count in found.items():
        print(f"{stage}: {name}: {count} left out", file=sys.stderr, flush=True)
    return found
