"""No code here downloads what may change, or runs a model's own code: checked on the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from mergekit.options import MergeOptions

from conftest import ROOT

FOLDERS = ("benchmarks", "ladder", "stages", "perf", "supply")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
OF_THE_HUB = {
    *("hf_hub_download", "snapshot_download", "list_repo_files", "list_repo_tree", "repo_info", "model_info"),
    *("dataset_info", "load_dataset", "load_dataset_builder", "get_dataset_config_names", "get_dataset_split_names"),
}
FETCHERS = {"urlopen", "urlretrieve", "wget", "pipeline", "nltk.download", "evaluate.load", "torch.hub.load"}


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """(place, dotted name, call) of every call."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Call):
            yield f"{path.relative_to(ROOT)}:{node.lineno}", ast.unparse(node.func), node


def keyword(call: ast.Call, name: str) -> str | None:
    return next((ast.unparse(item.value) for item in call.keywords if item.arg == name), None)


CALLS = [found for path in FILES for found in calls(path)]


def test_every_auto_class_does_not_run_a_models_code():
    auto = [
        (place, keyword(call, "trust_remote_code"))
        for place, name, call in CALLS
        if name.split(".")[-1] in ("from_pretrained", "from_config")
        and (name.startswith("Auto") or name.startswith("kind."))
        and not (call.args and ast.unparse(call.args[0]) == "None")  # a class of transformers, with weights in memory
    ]
    assert len(auto) >= 20
    assert [found for found in auto if found[1] != "False"] == []


def test_nothing_else_sets_trust_remote_code():
    assert [place for place, _, call in CALLS if keyword(call, "trust_remote_code") not in (None, "False")] == []
    assert MergeOptions().trust_remote_code is False


def test_every_call_of_the_hub_names_a_revision():
    of_the_hub = [
        (place, keyword(call, "revision")) for place, name, call in CALLS if name.split(".")[-1] in OF_THE_HUB
    ]
    assert len(of_the_hub) >= 4
    assert [place for place, revision in of_the_hub if revision is None] == []


def test_nothing_is_fetched_by_other_means():
    names = [(place, name) for place, name, _ in CALLS]
    assert [
        found for found in names if found[1] in FETCHERS or found[1].split(".")[-1] in ("urlopen", "urlretrieve")
    ] == []


def test_torch_and_pickle_read_tensors_alone():
    assert [
        place for place, name, call in CALLS if name == "torch.load" and keyword(call, "weights_only") != "True"
    ] == []
    assert [
        place for place, name, _ in CALLS if name in ("pickle.load", "pickle.loads", "joblib.load", "dill.load")
    ] == []


@pytest.mark.parametrize(
    "file", ["pyproject.toml", "constraints.txt", *(f"locks/{p.name}" for p in (ROOT / "locks").glob("*"))]
)
def test_no_requirement_is_an_address(file):
    assert [line for line in (ROOT / file).read_text().splitlines() if "git+" in line or " @ " in line] == []
