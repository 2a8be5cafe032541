"""JSON Schema of params.yaml, generated from the stages' Params types and the arguments of other libraries.

Editors complete and check params.yaml and recipes by it (docs/editor.md). It accepts everything that
`ladder check` accepts, and refuses unknown keys, wrong types, values out of range and choices that do not exist.
Relations between keys are checked by `ladder check` alone.
"""

import ast
import importlib
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any

from mergekit.config import MergeConfiguration
from peft import LoraConfig
from pydantic import BaseModel, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, create_model
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from transformers import BitsAndBytesConfig

from ladder.filters import basic, steps
from ladder.filters.registry import MODEL_FILTERS
from ladder.models.config_passthrough import ALSO, Arguments, adapter_check, quantization_check
from ladder.models.merge_config import merge_config
from ladder.pipeline.dvc_file import body, has_entries, read_pipeline
from ladder.training import rewards
from ladder.training.key_ranges import CHOICES, INFINITE, RANGES
from ladder.training.trainer_keys import SAME, defaults, refused

DIALECT = "http://json-schema.org/draft-07/schema#"
"""Draft 7, the newest that yaml-language-server reads in all its versions; pydantic writes draft 2020-12."""
ARGUMENTS = "x-arguments"
"""Mark of a node that is replaced by the schema of a library's arguments: [owner, kind]."""
JOINED = {"pairs": "TrainingArguments_pairs", "tokens": "TrainingArguments_tokens", "ppo": "TrainingArguments_ppo"}
OWNERS: dict[str, type] = {}


def params_schema() -> dict[str, Any]:
    """Return the schema of params.yaml. Every section has the description of its stage in dvc.yaml."""
    pipeline = read_pipeline()
    kinds = {stage: importlib.import_module(f"stages.{stage}").Params for stage in pipeline}
    refs, found = models_json_schema([(kind, "validation") for kind in kinds.values()], schema_generator=_Generator)
    sections = {}
    for stage, stanza in pipeline.items():
        section: dict[str, Any] = dict(refs[kinds[stage], "validation"])
        if has_entries(stage, stanza):
            section = {"type": "object", "additionalProperties": section}
        sections[stage] = {"description": body(stanza)["desc"], **section}
    definitions = found["$defs"]
    schema = {
        "$schema": DIALECT,
        "title": "params.yaml",
        "type": "object",
        "properties": sections,
        "additionalProperties": False,
        "$defs": definitions,
    }
    for node in list(_nodes(schema)):
        if ARGUMENTS in node:
            owner, kind = node.pop(ARGUMENTS)
            name = JOINED.get(kind, kind)
            node["$ref"] = f"#/$defs/{name}"
            definitions[name] = arguments_schema(OWNERS[owner], kind)
    for node in list(_nodes(schema)):
        _as_draft_7(node)
    return schema


def _as_draft_7(node: dict[str, Any]) -> None:
    """Rewrite what draft 7 reads otherwise: it ignores the keys beside a `$ref`, and has no `prefixItems`."""
    if "$ref" in node and len(node) > 1:
        node["allOf"] = [{"$ref": node.pop("$ref")}]
    if "prefixItems" in node:
        node["items"] = node.pop("prefixItems")


def partial(schema: dict[str, Any]) -> dict[str, Any]:
    """Remove every `required` from a schema, in place, and return it: a recipe names only what it changes."""
    for node in _nodes(schema):
        if isinstance(node.get("required"), list):
            del node["required"]
    return schema


def arguments_schema(owner: type, kind: str) -> dict[str, Any]:
    """Return the schema of a library's arguments. A key without effect accepts only the values that change nothing."""
    useless, properties = refused(owner, kind), {}
    for name, default in defaults(owner).items():
        if name in useless:
            plain = (_plain(one) for one in SAME.get(name, (default,)))
            accepted = [one for one in plain if one is not NotImplemented]
            node: dict[str, Any] = {"enum": accepted} if accepted else {"not": {}}
            properties[name] = {**node, "description": f"No effect here. Instead: {useless[name]}", "deprecated": True}
        else:
            properties[name] = _argument(owner, kind, name, default)
    return {"type": "object", "properties": dict(sorted(properties.items())), "additionalProperties": False}


def _argument(owner: type, kind: str, name: str, default: Any) -> dict[str, Any]:
    choices = {**CHOICES[""], **CHOICES.get(owner.__name__, {}), **CHOICES.get(kind, {})}.get(name)
    node = _typed(owner, name)
    if choices:
        one: dict[str, Any] = {"enum": [*choices, *([None] if default is None and None not in choices else [])]}
        spelled = [{"type": "string", "pattern": "^pissa_niter_"}] if name == "init_lora_weights" else []
        lists = [{"type": "array", "items": one}] if "array" in json.dumps(node) else []
        node = {"anyOf": [one, *spelled, *lists]} if spelled or lists else one
    elif node and default is None and '"null"' not in json.dumps(node):
        node = {"anyOf": [node, {"type": "null"}]}
    if name in RANGES:
        low, high, low_in, high_in = RANGES[name]
        node["minimum" if low_in else "exclusiveMinimum"] = low
        if high != INFINITE:
            node["maximum" if high_in else "exclusiveMaximum"] = high
    plain = _plain(default)
    return node if plain is NotImplemented else {**node, "default": plain}


def _typed(owner: type, name: str) -> dict[str, Any]:
    """Return the schema of an argument's declared type; {} if the type has none or is not declared."""
    declared = ALSO.get((owner.__name__, name)) or typing.get_type_hints(owner).get(name, Any)
    try:
        found = TypeAdapter(declared).json_schema()
    except (PydanticUserError, PydanticSchemaGenerationError):
        return {}
    return {} if "$defs" in found else _ordered(found)


def _ordered(node: Any) -> Any:
    """Sort the alternatives of a library's unions: `typing` keeps the order in which a process first named a union."""
    if isinstance(node, list):
        return [_ordered(one) for one in node]
    if not isinstance(node, dict):
        return node
    found = {key: _ordered(value) for key, value in node.items()}
    if "anyOf" in found:
        found["anyOf"].sort(key=lambda one: (one == {"type": "null"}, json.dumps(one, sort_keys=True)))
    return found


def _plain(value: Any) -> Any:
    """Return a value as YAML would hold it; NotImplemented if it cannot."""
    value = value.value if isinstance(value, Enum) else value
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return NotImplemented


class _Generator(GenerateJsonSchema):
    """Generator that describes fields by their docstrings and knows the values that validators accept."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def model_schema(self, schema: Any) -> JsonSchemaValue:
        found = super().model_schema(schema)
        found.pop("title", None)
        described = field_docs(schema["cls"])
        for name, node in found.get("properties", {}).items():
            if name in described:
                found["properties"][name] = {**node, "description": described[name]}
        return found

    def function_before_schema(self, schema: Any) -> JsonSchemaValue:
        return _accepted(schema["function"]["function"]) or super().function_before_schema(schema)

    def function_after_schema(self, schema: Any) -> JsonSchemaValue:
        return _accepted(schema["function"]["function"]) or super().function_after_schema(schema)


def _accepted(validator: Any) -> dict[str, Any] | None:
    """Return the schema of what a validator accepts; None if the annotated type says it."""
    if isinstance(validator, Arguments):
        return _library(validator.owner, validator.kind)
    if validator is adapter_check:
        return {"anyOf": [_library(LoraConfig), {"const": "continue"}, {"type": "null"}]}
    if validator is quantization_check:
        return {"anyOf": [_library(BitsAndBytesConfig), {"type": "null"}]}
    if validator is merge_config:
        keys: dict[str, Any] = {name: {} for name in MergeConfiguration.model_fields}
        return {"type": "object", "properties": keys, "additionalProperties": False}
    if validator is rewards.named:
        return _named("Rewards", {name: _reward(one) for name, one in rewards.KINDS.items()}) | {"minItems": 1}
    if getattr(validator, "__module__", "") == "stages.filter":
        names = sorted({*basic.__all__, *MODEL_FILTERS})
        return _named("Filters", {name: _filter(name) for name in names})
    return None


def _library(owner: type, kind: str | None = None) -> dict[str, Any]:
    OWNERS[owner.__name__] = owner
    return {ARGUMENTS: [owner.__name__, kind or owner.__name__]}


def _named(title: str, kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a list of `name: {parameters}`."""
    one = {
        "type": "object", "properties": kinds, "additionalProperties": False, "minProperties": 1, "maxProperties": 1
    }  # fmt: skip
    return {"title": title, "type": "array", "items": one}


def _filter(name: str) -> dict[str, Any]:
    made = _parameters(steps.parameters_type(name), steps.function_of(name))
    return made if "required" in made else {**made, "type": ["object", "null"]}


def _reward(function: Callable[..., Any]) -> dict[str, Any]:
    types = typing.get_type_hints(function)
    wanted = [one for one in inspect.signature(function).parameters.values() if one.kind is one.KEYWORD_ONLY]
    fields: Any = {one.name: (types[one.name], ... if one.default is one.empty else one.default) for one in wanted}
    return _parameters(create_model(function.__name__, **{**fields, "weight": (float, ...)}), function)


def _parameters(kind: type[BaseModel], function: Callable[..., Any]) -> dict[str, Any]:
    made = kind.model_json_schema(schema_generator=_Generator)
    made["additionalProperties"] = False
    return {**made, "description": _paragraphs(inspect.getdoc(function) or "").partition("\n\n")[0]}


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstrings of a class's fields, its bases' included: the text under each field."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith(("ladder", "stages", "benchmarks")) or base.__module__ == steps.__name__:
            continue
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError):  # a class that was made at run time has no source
            continue
        assert isinstance(tree, ast.ClassDef)
        for field, text in zip(tree.body, tree.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = _paragraphs(inspect.cleandoc(said))
    return found


def _paragraphs(text: str) -> str:
    """Join the lines of each paragraph, except of a list: lines of a name and a text in columns."""
    return "\n\n".join(_listed(part) or " ".join(part.split()) for part in text.split("\n\n"))


def _listed(part: str) -> str:
    """Return a list as "`csv`: a header line; ..."; empty for a plain paragraph."""
    pairs = [re.split(r" {2,}|(?<=:) ", line.strip(), maxsplit=1) for line in part.splitlines()]
    if len(pairs) < 2 or any(len(pair) < 2 or " " in pair[0] for pair in pairs):
        return ""
    return "; ".join(f"`{name.strip(':`')}`: {text}" for name, text in pairs) + "."


def _nodes(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        yield content
    for inner in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _nodes(inner)
