"""JSON Schema of the section `defaults`, and of entries that inherit keys from it."""

import copy
from typing import Any

from ladder.pipeline.defaults import DEFAULTS, takes_defaults
from ladder.pipeline.dvc_file import read_pipeline

MEANING = "Values that the entries of a stage inherit; docs/defaults.md."


def with_defaults_section(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of params.yaml with the section `defaults`.

    An entry's required keys are required only where `defaults` lacks its stage. Sections without entries may be `{}`
    if no stage reads them.
    """
    schema, pipeline = copy.deepcopy(schema), read_pipeline()
    sections, definitions = schema["properties"], schema["$defs"]
    defaults, conditions = {}, []
    for stage, section in sections.items():
        if takes_defaults(stage) and isinstance(section.get("additionalProperties"), dict):
            entry = section["additionalProperties"]
            defaults[stage] = copy.deepcopy(entry)
            if required := definitions[_target(entry)].pop("required", []):
                conditions.append(_complete(stage, required))
        elif "allOf" in section and {"foreach", "matrix"} & pipeline[stage].keys():
            section["anyOf"] = [*section.pop("allOf"), {"type": "object", "maxProperties": 0}]
    sections[DEFAULTS] = {
        "description": MEANING, "type": "object", "properties": defaults, "additionalProperties": False
    }  # fmt: skip
    schema["allOf"] = conditions
    return schema


def _complete(stage: str, required: list[str]) -> dict[str, Any]:
    """Return the rule that entries have all required keys if the stage has no defaults."""
    has_defaults = {"required": [DEFAULTS], "properties": {DEFAULTS: {"required": [stage]}}}
    entries = {"additionalProperties": {"required": required}}
    return {"if": {"not": has_defaults}, "then": {"properties": {stage: entries}}}


def _target(node: dict[str, Any]) -> str:
    (found,) = node.get("allOf", [node])
    return str(found["$ref"]).removeprefix("#/$defs/")
