"""Arguments of other libraries, passed through under their own names and checked by their owners' own types."""

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from peft import LoraConfig
from pydantic import TypeAdapter, ValidationError

from ladder.run import Refused

C = TypeVar("C")
Adapter = dict[str, Any] | Literal["continue"] | None


def passes(owner: type) -> Callable[[Any], dict[str, Any]]:
    """A pydantic validator: the keys and types of `owner`, a dataclass that another library defines and documents."""

    def check(values: Any) -> dict[str, Any]:
        if not isinstance(values, dict):
            raise ValueError(f"expected arguments of {owner.__name__}")
        fields = {field.name: field for field in dataclasses.fields(owner)}
        types = typing.get_type_hints(owner)
        for name, value in values.items():
            if name not in fields:
                raise ValueError(f"{owner.__name__} has no argument {name!r}")
            try:
                TypeAdapter(types[name]).validate_python(value)
            except ValidationError as error:
                raise ValueError(f"{name}: {error.errors()[0]['msg']}, got {value!r}") from None
            choices = fields[name].metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(f"{name}: expected one of {', '.join(map(str, choices))}, got {value!r}")
        return values

    return check


def adapter_check(value: Any) -> Adapter:
    """A pydantic validator of `lora`: LoraConfig's arguments, `continue` (the parent's adapter), null (all weights)."""
    if value is None or value == "continue":
        return value
    return passes(LoraConfig)(value)


def build(owner: type[C], arguments: dict[str, Any], **fixed: Any) -> C:
    """Build another library's configuration; what it refuses is told as the user's mistake."""
    try:
        return owner(**{**arguments, **fixed})
    except (ValueError, TypeError) as error:
        raise Refused(f"{owner.__name__}: {error}") from None
