"""Pass-through configuration: arguments of other libraries under their own names, validated before weights are read.

Every key either has an effect or is refused with an alternative (ladder/training/trainer_keys.py). Its value must have
the library's type and lie in a sensible range (ladder/training/key_ranges.py). docs/trainer-keys.md lists both.
"""

import dataclasses
import json
import typing
from typing import Any, Literal, TypeVar

from peft import LoraConfig
from pydantic import TypeAdapter, ValidationError
from transformers import BitsAndBytesConfig, TrainingArguments

from ladder.pipeline.errors import expectation
from ladder.pipeline.stage import UserError
from ladder.training.key_ranges import outside, unknown
from ladder.training.key_requirements import absent, unmet, unread
from ladder.training.trackers import missing_tracker
from ladder.training.trainer_keys import defaults, refusal

C = TypeVar("C")
Adapter = dict[str, Any] | Literal["continue"] | None

ALSO: dict[tuple[str, str], Any] = {
    ("DPOConfig", "loss_type"): list[str] | str,
    ("GRPOConfig", "scale_rewards"): str | bool,
    ("LoraConfig", "init_lora_weights"): bool | str,
}
"""Overrides of declared types: a library accepts other types too, or does not use a type that it declares."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Pydantic validator for the arguments of `owner`, a dataclass that another library defines and documents."""

    owner: type
    kind: str
    """`owner`'s name, or the use of TrainingArguments by the ladder's own trainers: `pairs`, `tokens` or `ppo`."""

    def __call__(self, values: Any) -> dict[str, Any]:
        owner, kind = self.owner, self.kind
        if not isinstance(values, dict):
            raise ValueError(f"expected arguments of {owner.__name__}, got {values!r}")
        known = defaults(owner)
        for name, value in values.items():
            if name not in known:
                raise ValueError(unknown(owner.__name__, name, known))
            if said := refusal(owner, kind, name, value):
                raise ValueError(said)
            _check_type(owner, name, value)
            if said := outside(owner.__name__, kind, name, value):
                raise ValueError(said)
        said = unmet(owner, values) or unread(values) or absent(values) or missing_tracker(values)
        if said:
            raise ValueError(said)
        if owner.__name__ == "DPOConfig":
            _check_dpo(values)
        if values.get("packing") and values.get("max_length", 1) is None:
            raise ValueError("packing: a packed row has max_length tokens; expected a number for max_length, got null")
        return values


def passes(owner: type, kind: str | None = None) -> Arguments:
    """Make the validator of `owner`'s arguments; `kind` is its name by default."""
    return Arguments(owner, kind or owner.__name__)


def _check_type(owner: type, name: str, value: Any) -> None:
    """Check a value's type. A quoted number is not a number; an integer is accepted for a float."""
    declared = ALSO.get((owner.__name__, name)) or typing.get_type_hints(owner)[name]
    try:
        text = json.dumps(value)
    except TypeError:
        raise ValueError(f"{name}: expected a number, a string or a list, got {value!r}") from None
    if value is None and defaults(owner)[name] is not None and type(None) not in typing.get_args(declared):
        raise ValueError(f"{name}: expected a value, got null. Omit the key for {defaults(owner)[name]!r}.")
    if isinstance(value, bool) and declared in (int, float):
        raise ValueError(f"{name}: expected a number, got {value}")
    try:
        if isinstance(value, float):  # NaN and infinity have no JSON form; key_ranges refuses them
            TypeAdapter(declared).validate_python(value, strict=True)
        else:
            TypeAdapter(declared).validate_json(text, strict=True)
    except ValidationError as error:
        raise ValueError(f"{name}: {expectation(error.errors()[0]['msg'])}, got {value!r}") from None


def _check_dpo(values: dict[str, Any]) -> None:
    """Check combinations of arguments that TRL's DPO refuses only when its trainer is built. Errors: ValueError."""
    losses = values.get("loss_type", ["sigmoid"])
    losses = [losses] if isinstance(losses, str) else losses
    if not losses:
        raise ValueError("loss_type: expected at least one loss, got an empty list")
    if "exo_pair" in losses and not values.get("label_smoothing"):
        raise ValueError("label_smoothing: expected a value above 0 with loss_type exo_pair. 1e-3 is common.")
    if values.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        raise ValueError("use_weighting: undefined for the losses aot and aot_unpaired. Omit the key.")
    free = {"sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft"}
    if values.get("f_divergence_type", "reverse_kl") != "reverse_kl" and not set(losses) <= free:
        raise ValueError(f"f_divergence_type: expected reverse_kl with loss_type {', '.join(losses)}")


def adapter_check(value: Any) -> Adapter:
    """Validate `lora` (pydantic): LoraConfig's arguments, `continue` (the parent's adapter), or null (all weights)."""
    if value is None or value == "continue":
        return value
    checked = passes(LoraConfig)(value)
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern, one in (checked.get(name) or {}).items():
            if isinstance(one, bool) or not isinstance(one, int | float) or one < 1:
                raise ValueError(f"{name}: expected numbers of 1 or more, got {one!r} for {pattern!r}")
    ranks = [checked.get("r", 8), *(checked.get("rank_pattern") or {}).values()]
    if checked.get("init_lora_weights") == "orthogonal" and any(rank % 2 for rank in ranks):
        raise ValueError(f"r: expected even ranks with init_lora_weights orthogonal, got {ranks}")
    return checked


def quantization_check(value: Any) -> dict[str, Any] | None:
    """Validate `quantization` (pydantic): BitsAndBytesConfig's arguments, or null for unquantized weights."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError("expected arguments of BitsAndBytesConfig or null")
    known = defaults(BitsAndBytesConfig)
    for name, given in value.items():
        if name not in known:
            raise ValueError(unknown("BitsAndBytesConfig", name, known))
        said = refusal(BitsAndBytesConfig, "BitsAndBytesConfig", name, given)
        if said is None and given is not None:
            said = outside("BitsAndBytesConfig", "BitsAndBytesConfig", name, given)
        if said:
            raise ValueError(said)
    if said := unmet(BitsAndBytesConfig, value):
        raise ValueError(said)
    try:
        config = BitsAndBytesConfig(**value)
    except (TypeError, ValueError, AttributeError) as error:  # dtypes are looked up as attributes of torch
        raise ValueError(f"BitsAndBytesConfig: {error}") from None
    if not config.is_quantizable():
        raise ValueError("expected load_in_4bit: true or load_in_8bit: true")
    return value


def build(owner: type[C], arguments: dict[str, Any], **fixed: Any) -> C:
    """Build another library's configuration. Errors: UserError if the library refuses the arguments."""
    try:
        made = owner(**{**arguments, **fixed})
    except (ValueError, TypeError, ImportError, NotImplementedError) as error:
        raise UserError(f"{owner.__name__}: {' '.join(str(error).split())}") from None
    if isinstance(made, TrainingArguments) and dataclasses.is_dataclass(made):
        from ladder.training.dry_run import rehearse

        rehearse(made)
    return made
