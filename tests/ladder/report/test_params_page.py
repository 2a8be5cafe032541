"""Reference and schema of params.yaml: as committed, complete, and right about values that a stage takes or refuses."""

import copy
import json
from typing import Any

import pytest

from conftest import ROOT
from ladder.pipeline.stage import read_yaml
from ladder.report import params_page
from ladder.report.params_schema import field_docs
from stages import dpo, sft

SCHEMAS = {name: json.loads((ROOT / f"schema/{name}.schema.json").read_text()) for name in ("params", "recipe")}
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture(scope="module")
def params() -> dict[str, Any]:
    """Values for every stage."""
    return read_yaml(ROOT / "recipes/guide.yaml")


def refused(schema: str, content: Any) -> list[str]:
    """The keys at which jsonschema refuses a content."""
    jsonschema = pytest.importorskip("jsonschema")
    errors = jsonschema.Draft7Validator(SCHEMAS[schema]).iter_errors(content)
    return sorted({".".join(map(str, error.absolute_path)) for error in errors})


def test_the_committed_pages_and_schemas_are_those_of_the_types(monkeypatch):
    monkeypatch.chdir(ROOT)
    for path, text in params_page.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is old: run `python -m ladder.report.params_page`"


def test_every_stage_and_every_key_is_on_the_page():
    page = (ROOT / "docs/params.md").read_text(encoding="utf-8")
    sections = {part.partition("\n")[0]: part for part in page.split("\n## ")[1:]}
    for stage in read_yaml(ROOT / "dvc.yaml")["stages"]:
        assert stage in sections
    for stage in (sft, dpo):
        name = stage.__name__.partition(".")[2]
        keys = [line.split("`")[1] for line in sections[name].splitlines() if line.startswith("| `")]
        assert keys == list(stage.Params.model_fields)


def test_a_field_is_described_by_the_text_below_it():
    described = field_docs(sft.Params)
    assert described["parent"] == "Rung to start from: `base`, `sft/chat`."
    assert described["lora_plus"] == (
        "LoRA+: learning rate of B divided by that of A, at least 1. Null uses one rate for both.\n\n"
        "Hayou et al. 2024 recommend about 16."
    )


def test_params_yaml_and_every_recipe_name_their_schema_and_fit_it(params):
    assert (ROOT / "params.yaml").read_text().startswith("# yaml-language-server: $schema=schema/params.schema.json\n")
    assert refused("params", read_yaml(ROOT / "params.yaml")) == refused("params", params) == []
    for recipe in RECIPES:
        assert recipe.read_text().startswith("# yaml-language-server: $schema=../schema/recipe.schema.json\n")
        assert refused("recipe", read_yaml(recipe)) == [], recipe


WRONG = [
    (("stf",), {}, ""),
    (("sft", "chat", "parnet"), "base", "sft.chat"),
    (("sft", "chat", "parent"), 3, "sft.chat.parent"),
    (("sft", "chat", "lora_plus"), 0.5, "sft.chat.lora_plus"),
    (("sft", "chat", "trainer", "learning_rat"), 1e-4, "sft.chat.trainer"),
    (("sft", "chat", "trainer", "learning_rate"), "1e-4", "sft.chat.trainer.learning_rate"),
    (("sft", "chat", "trainer", "learning_rate"), -1e-4, "sft.chat.trainer.learning_rate"),
    (("sft", "chat", "trainer", "lr_scheduler_type"), "cosin", "sft.chat.trainer.lr_scheduler_type"),
    (("sft", "chat", "trainer", "push_to_hub"), True, "sft.chat.trainer.push_to_hub"),
    (("sft", "chat", "lora"), {"rank": 3}, "sft.chat.lora"),
    (("sft", "chat", "lora"), "keep", "sft.chat.lora"),
    (("filter", "chat", "steps"), [{"exakt": {}}], "filter.chat.steps.0"),
    (("filter", "chat", "contamination"), "ignore", "filter.chat.contamination"),
    (("base", "dtype"), "float12", "base.dtype"),
    (("report", "rungs"), "base", "report.rungs"),
]


@pytest.mark.parametrize(("keys", "value", "place"), WRONG, ids=lambda value: str(value)[:40])
def test_the_schema_refuses_what_a_stage_refuses(params, keys, value, place):
    changed = copy.deepcopy(params)
    section = changed
    for key in keys[:-1]:
        section = section[key]
    section[keys[-1]] = value
    assert refused("params", changed) == [place]


def test_a_recipe_may_name_a_part_of_an_entry_alone(params):
    assert refused("recipe", {"sft": {"chat": {"trainer": {"max_steps": 3}}}}) == []
    assert refused("params", {**params, "sft": {"chat": {"trainer": {"max_steps": 3}}}}) == ["sft.chat"]


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ({"type": "integer", "minimum": 1}, "whole number ≥ 1"),
        ({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "null"}]}, "number > 0 or null"),
        ({"enum": ["refuse", "report", None, True]}, "`refuse` or `report` or `null` or `true`"),
        ({"type": "array", "items": {"type": "string"}}, "list of text"),
        ({"type": "object", "additionalProperties": {"type": "boolean"}}, "mapping of names to true or false"),
        ({"allOf": [{"$ref": "#/$defs/File"}], "default": {}}, "[File](#file)"),
        ({"$ref": "#/$defs/LoraConfig"}, "[LoraConfig](library-params.md#loraconfig)"),
        ({"$ref": "#/$defs/stages__mixture__Part"}, "[mixture: Part](#mixture-part)"),
        ({}, "any"),
    ],
)  # fmt: skip
def test_a_type_in_words(node, text):
    assert params_page._type(node) == text
