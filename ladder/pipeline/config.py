"""Typed sections of params.yaml: their base type, bounds of values, and validation with one sentence per key."""

import re
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ladder.pipeline.errors import UserError, expectation
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.secrets import masked, secrets_in
from ladder.pipeline.yaml_lines import Keys

SHOWN = 200
"""Maximum characters of a value in a message."""

# Bounds of parameters, so that params.yaml is validated before any row is read.
Share = Annotated[float, Field(ge=0, le=1)]
"""A fraction or a probability."""
Cosine = Annotated[float, Field(ge=-1, le=1)]
Amount = Annotated[float, Field(ge=0)]
Number = Annotated[int, Field(ge=0)]
Size = Annotated[int, Field(ge=1)]
"""A positive count, for example words of an n-gram or rows of a selection."""


class Config(BaseModel):
    """A stage's section of params.yaml, or one named entry of it. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


S = TypeVar("S", bound=Config)


def refuse_secrets(section: Any, where: str) -> None:
    """Check that no parameter holds a key or password, because params are published with every rung.

    Errors: UserError.
    """
    if found := list(secrets_in(section)):
        raise UserError(
            f"{where}: {', '.join(found)}: a secret; expected none, because params are published. Put it into an "
            "environment variable: libraries read HF_TOKEN and similar ones, an endpoint reads the one in `key_env`."
        )


def fit(kind: type[S], section: Any, where: str) -> S:
    """Validate a section as `kind`. Errors: UserError listing every key that does not fit."""
    if not isinstance(section, dict):
        raise UserError(f"{where}: {misfits(kind, section)[0][1]}")
    try:
        fitted = kind.model_validate(section)
        refuse_secrets(section, where)
        return fitted
    except ValidationError as error:
        found = [(item["loc"], _sentence(kind, item)) for item in error.errors()]
        raise UserError("; ".join(f"{'.'.join([where, *map(str, keys)])}: {one}" for keys, one in found)) from None


def misfits(kind: type[Config], section: Any) -> list[tuple[Keys, str]]:
    """Return (keys within the section, sentence) for everything that does not fit `kind`; empty for a valid section."""
    if not isinstance(section, dict):
        return [((), f"expected keys {', '.join(kind.model_fields)}, got {shown(section)}")]
    try:
        kind.model_validate(section)
    except ValidationError as error:
        return [(item["loc"], _sentence(kind, item)) for item in error.errors()]
    except UserError as refusal:
        return [((), str(refusal))]
    return []


def shown(value: Any) -> str:
    """Return a value for a message, truncated, with secrets masked."""
    text = masked(repr(value))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _sentence(kind: type[Config], item: Any) -> str:
    if item["type"] == "extra_forbidden":
        fields = _fields(kind, item["loc"][:-1])
        near = did_you_mean(item["loc"][-1], fields)
        return f"no such key{near}; expected one of {', '.join(fields)}" if fields else "no such key"
    if item["type"] == "missing":
        return "missing; expected a value"
    near = did_you_mean(item["input"], re.findall(r"'([^']+)'", item["ctx"]["expected"])) if _is_choice(item) else ""
    own, problem = item["type"] == "value_error", expectation(item["msg"])
    # A section may hold a secret. Our own messages name the invalid value, or the invalid element of a list.
    named = isinstance(item["input"], dict) or own and (isinstance(item["input"], list) or ", got " in problem)
    if named:
        return masked(f"{problem}{near}")
    cause, stop, fix = problem.partition(". ")
    return masked(f"{cause}, got {shown(item['input'])}{stop}{fix}{near}")


def _is_choice(item: Any) -> bool:
    return item["type"] in ("literal_error", "enum")


def _fields(kind: Any, keys: Keys) -> list[str]:
    """Return the field names of the nested section at `keys` of `kind`; empty if `keys` do not lead to one section."""
    for key in keys:
        field = kind.model_fields.get(key)
        inner = [] if field is None else [field.annotation, *get_args(field.annotation)]
        kind = next((part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)), None)
        if kind is None:
            return []
    return list(kind.model_fields)
