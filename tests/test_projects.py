"""Every project of recipes/projects passes the checks of `ladder check`, and states the memory of `ladder plan`."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from conftest import ROOT
from ladder.cli.project_checks import check_project
from ladder.cli.project_text import CATALOG, project_text
from ladder.cli.recipe_files import described, head
from ladder.pipeline.defaults import with_defaults
from ladder.pipeline.stage import read_params, read_yaml
from ladder.plan.changes import changes
from ladder.plan.costs import Costs

PROJECTS = sorted((ROOT / "recipes/projects").glob("*.yaml"))
OWN = Path("data/raw/own-rows.jsonl")
GPUS = {"RTX 4090": "rtx4090", "A100": "a100-80"}
TRAINS = ("sft", "dpo", "grpo")


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def text_of(path):
    takes_rows = "own" in (read_yaml(path).get("source") or {})
    return project_text(path, {"source": {"own": {"source": OWN.name}}} if takes_rows else None)


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.stem)
def test_a_project_passes_the_checks_and_its_memory_is_that_of_the_plan(path):
    params = check_project(text_of(path), path, placed=OWN)
    comment = " ".join(line.removeprefix("# ") for line in head(path))
    found = changes(params)
    gpu = next((key for name, key in GPUS.items() if name in comment), "a100-80")
    costs = Costs(found, {}, gpu)
    trained = [costs.cost(change) for change in found.values() if change.stage.kind in TRAINS]
    peaks = [cost.bytes for cost in trained]
    assert None not in peaks
    if stated := re.search(r"training takes up to ([\d.]+) GB", comment):
        assert f"{max(peaks) / 1e9:.1f}" == stated[1]
    else:
        assert not peaks


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.stem)
def test_a_project_states_its_needs_and_names_its_schema(path):
    found = described(path)
    assert found.kind == "project" and found.summary and found.needs
    assert path.read_text().startswith("# yaml-language-server: $schema=../../schema/recipe.schema.json\n")
    jsonschema = pytest.importorskip("jsonschema")
    for name, content in (("recipe", read_yaml(path)), ("params", YAML(typ="safe", pure=True).load(text_of(path)))):
        schema = json.loads((ROOT / f"schema/{name}.schema.json").read_text())
        errors = list(jsonschema.Draft7Validator(schema).iter_errors(content))
        assert [f"{list(error.absolute_path)}: {error.message[:80]}" for error in errors] == []


def test_a_project_without_defaults_names_every_key_in_the_schema():
    jsonschema = pytest.importorskip("jsonschema")
    schema = jsonschema.Draft7Validator(json.loads((ROOT / "schema/params.schema.json").read_text()))
    params = read_yaml(ROOT / "params.yaml")
    part = {"lora": {"r": 4}}
    assert [list(error.absolute_path) for error in schema.iter_errors({**params, "sft": {"x": part}})]
    whole = {"parent": "base", "data": "problems/x", "lora": None, "trainer": {}}
    assert not list(schema.iter_errors({**params, "defaults": {"sft": whole}, "sft": {"x": part}}))
    wrong = {**params, "defaults": {"sft": {"parnet": "base"}}}
    assert [list(error.absolute_path) for error in schema.iter_errors(wrong)] == [["defaults", "sft"]]


def test_the_catalog_has_the_entries_of_the_default_params():
    catalog, params = read_yaml(CATALOG), read_params()
    assert catalog["punkt"] == params["punkt"]
    for name in catalog["task"].keys() & params["task"].keys():
        assert catalog["task"][name] == {**catalog["task"][name], **params["task"][name]}, name
    modules = {path.stem for path in Path("benchmarks").glob("[!_]*.py")}
    assert set(catalog["task"]) == set(catalog["answer"]) == set(catalog["benchmark"]) <= modules


def test_every_rung_of_a_project_is_complete():
    for path in PROJECTS:
        for name, entry in with_defaults(check_project(text_of(path), path, placed=OWN))["sft"].items():
            assert {"parent", "data", "lora", "trainer"} <= entry.keys(), name


def test_the_list_of_recipes_names_what_each_needs():
    done = subprocess.run(
        [sys.executable, "-m", "ladder", "recipe", "--list"], capture_output=True, text=True, check=True
    )
    for path in PROJECTS:
        assert f"  {path.stem}: {described(path).summary}. Needs {described(path).needs}.\n" in done.stdout
