"""dvc.yaml read as data: every stage declares what it imports, reads and writes, and has its four parts."""

import importlib
import inspect
import json
import re
import subprocess
from pathlib import Path

import pytest
from dvc.repo import Repo

from ladder.data.jsonl import read_json
from ladder.pipeline.check import code_faults, entry_faults, part_faults, picture
from ladder.pipeline.dvc_file import INTERPOLATION, has_entries, values
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.links import LINKS, check_links, with_links
from ladder.pipeline.names import SINGLE, TRACKED_WHOLE, WITH_PATHS, command_values
from ladder.pipeline.records import leftovers
from ladder.pipeline.seeds import REPLICATED
from ladder.pipeline.stage import fit, outputs_of, read_params, read_written, read_yaml

ROOT = Path(__file__).parents[1]
STANZAS = read_yaml(ROOT / "dvc.yaml")["stages"]


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


SHARED = {
    "card": ["source"],  # it states the sources' licenses
    "questions": ["report.benchmarks"],
    "answer": ["report.benchmarks"],
    "benchmark": ["report.benchmarks", "report.rungs", {"links.yaml": ["rungs.report"]}],
    "report": ["lm_eval", {"links.yaml": ["rungs.report"]}],
    "claims": [{"links.yaml": ["rungs.claims"]}],
    "gate": ["lm_eval"],
}
"""Keys of other sections, and of links.yaml, that a stage tracks."""
HEADLINES = tuple(
    f"metrics/{name}"
    for name in ("accuracy", "benchmark", "claims", "divergence", "gate", "heldout", "judge_reliability", "lm_eval")
) + ("metrics/report",)
"""Files of scores, which hold no costs."""
MAKES_A_RUNG = {
    "base", "prune_layers", "sft", "dpo", "simpo", "orpo", "kto", "reward", "grpo", "rloo", "ppo", "distill",
    "distill_features", "gkd", "merge",
}  # fmt: skip


def body(stage):
    return STANZAS[stage].get("do", STANZAS[stage])


def paths(entries):
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries or []]


def test_a_stage_has_its_module_its_section_its_stanza_and_its_test():
    modules = {path.stem for path in Path("stages").glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in Path("tests/stages").glob("test_*.py")}
    assert set(STANZAS) == modules == set(read_params()) == tests


@pytest.mark.parametrize("stage", sorted(STANZAS.keys() - {"code"}))
def test_a_stage_depends_on_what_it_imports_and_on_its_own_benchmark(stage):
    # Where any benchmark may be imported, the stage itself compares the list of each with the one it ran with.
    own = ["code/benchmarks"] if stage in ("questions", "benchmark") else []
    own += ["code/filter/${item.entry}.txt"] if stage == "filter" else []  # the model filters that the entry names
    assert [path for path in body(stage)["deps"] if path.startswith("code")] == [f"code/{stage}.txt", *own]


def test_a_stage_depends_on_the_templates_of_the_pages_that_it_writes():
    pages, imports = Path("ladder/report/html_page.py"), read_imports(map(Path, ("ladder", "stages", "benchmarks")))
    folders = sorted(
        folder.as_posix() for folder in pages.parent.iterdir() if folder.is_dir() and folder.name[0] != "_"
    )
    assert folders == ["ladder/report/static", "ladder/report/templates"]
    for stage in STANZAS.keys() - {"code"}:
        needed = folders if pages in imported(Path(f"stages/{stage}.py"), imports) else []
        assert [path for path in body(stage)["deps"] if path.startswith("ladder")] == needed, stage


def test_a_stage_that_does_not_depend_on_its_code_is_reported(tmp_path, monkeypatch):
    for name in ("stages", "ladder", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    text = Path("dvc.yaml").read_text().replace("[code/sft.txt, ", "[")
    (tmp_path / "dvc.yaml").write_text(text.replace("[code/questions.txt, code/benchmarks, ", "[code/questions.txt, "))
    assert list(code_faults()) == []
    monkeypatch.chdir(tmp_path)
    assert list(code_faults()) == [
        "dvc.yaml: sft: expected code/sft.txt among its deps: an edit of its code would not rerun it",
        "dvc.yaml: questions: expected code/benchmarks among its deps: an edit of its code would not rerun it",
    ]


@pytest.mark.parametrize("stage", STANZAS)
def test_the_command_names_every_input_and_then_every_output(stage):
    words = body(stage)["cmd"].split()
    module, *arguments = words[2:]
    assert (words[:2], module) == (["python", "-m"], f"stages.{stage}")
    if has_entries(stage, STANZAS[stage]):
        assert arguments.pop(0) in ("${key}", "${item.task}")
    files = body(stage)["deps"]
    inputs = [path for path in files if not path.startswith(("code/", "ladder/")) or path in arguments]
    outputs = paths([*body(stage)["outs"], *body(stage).get("metrics", []), *body(stage).get("plots", [])])
    if stage == "report":  # it writes a folder that holds other files of the report than DVC's own
        outputs = ["report", "metrics/report"]
    assert set(arguments) == {*inputs, *outputs}
    last_input = max((arguments.index(path) for path in inputs), default=-1)
    assert all(arguments.index(path) > last_input for path in outputs)
    # `run` locks the paths from the parameter `output` on.
    names = list(inspect.signature(importlib.import_module(f"stages.{stage}").main).parameters)[1:]
    assert set(outputs_of(names, arguments)) == set(outputs)


@pytest.mark.parametrize("stage", STANZAS)
def test_a_stage_says_what_it_does(stage):
    assert body(stage)["desc"]


def test_a_plot_has_axis_titles_and_a_template_that_exists():
    plots = [plot for stage in STANZAS for one in body(stage).get("plots", []) for plot in one.values()]
    assert len(plots) == 14
    for plot in plots:
        assert plot.keys() & {"x_label", "y_label"}, plot
        template = Path(f".dvc/plots/{plot.get('template')}.json")
        assert "template" not in plot or json.loads(template.read_text())["data"] == {"values": "<DVC_METRIC_DATA>"}


@pytest.mark.parametrize("stage", STANZAS)
def test_a_section_fits_the_type_that_reads_it(stage):
    section = read_params()[stage]
    kind = importlib.import_module(f"stages.{stage}").Params
    for name, entry in section.items() if has_entries(stage, STANZAS[stage]) else [(stage, section)]:
        fit(kind, entry, name)


def test_a_stage_tracks_its_own_section_or_an_entry_of_it_alone():
    for stage in STANZAS:
        tracked, *others = body(stage)["params"]
        entry = re.fullmatch(rf"{stage}\.\$\{{(key|item\.\w+)\}}", tracked)
        inherits = [{"${item.tracked}": [tracked]}] if stage not in SINGLE | TRACKED_WHOLE else []
        assert others == SHARED.get(stage, []) + inherits
        assert tracked == stage or entry
        assert has_entries(stage, STANZAS[stage]) == bool(entry)


def test_the_entries_that_may_have_replicas_are_tracked_by_their_own_name():
    assert {stage for stage in STANZAS if body(stage)["params"][0] == f"{stage}.${{item.entry}}"} == set(REPLICATED)


def sample(stage, stanza):
    """A section with one entry that has a value for each interpolation of the stage's command."""
    entry = {}
    for expression in INTERPOLATION.findall(body(stage)["cmd"]):
        match expression.replace("[", ".").replace("]", "").split("."):
            case ["item", key] if "foreach" in stanza:
                entry[key] = "a/b"
            case ["item", key, _]:
                entry[key] = ["a/b", "a/b"]
    return {"x": entry} if has_entries(stage, stanza) else {}


@pytest.mark.parametrize("stage", STANZAS)
def test_every_value_that_reaches_a_command_is_validated(stage):
    params = with_links(read_yaml(Path("recipes/guide.yaml")))
    for section in STANZAS:
        params[section] = params[section] or sample(section, STANZAS[section])
    validated = {tuple(keys) for section in params for keys, _ in command_values(section, params[section])}
    validated |= {(section, name) for section in params.keys() - SINGLE for name in params[section]}
    for expression in INTERPOLATION.findall(body(stage)["cmd"]):
        found = [tuple(keys) for keys, _ in values(expression, STANZAS[stage], params)]
        assert found and set(found) <= validated


def test_sections_without_entries_and_entries_with_paths_are_those_of_dvc_yaml():
    params = read_params()
    whole = {"answer", "task", "benchmark", "heldout"}  # these run over all of their entries
    assert {stage for stage in STANZAS if not has_entries(stage, STANZAS[stage])} - whole == SINGLE
    assert {stage for stage in STANZAS for name in params[stage] if "/" in name} <= WITH_PATHS


@pytest.mark.parametrize(
    "name", ["x; touch PWN", "$(touch PWN)", "`touch PWN`", "x\ntouch PWN", "x y", "x'y", "x|y", "x&y"]
)
def test_dvc_refuses_an_output_whose_path_a_shell_could_read(name):
    with Repo() as repo:
        ignored = repo.dvcignore.check_ignore
        for path in (f"models/sft/{name}", f"data/task/{name}.jsonl", f"metrics/sft/{name}.json", f"{name}/x"):
            assert ignored(path).match


def test_files_and_outputs_are_read_by_dvc():
    with Repo() as repo:
        ignored = repo.dvcignore.check_ignore
        outs = [str(Path(out.fs_path).relative_to(ROOT)) for stage in repo.index.stages for out in stage.outs]
        assert len(outs) > 60 and not any(ignored(path).match for path in outs)
        folders = ("data/raw", "data/seeds", "prompts")
        assert not any(ignored(f"{folder}/my rows (1).jsonl").match for folder in folders)
        tracked = subprocess.run(["git", "ls-files"], capture_output=True, check=True, text=True).stdout.splitlines()
        assert not any(ignored(path).match for path in tracked if not path.startswith(".dvc/"))


def test_the_committed_links_belong_to_the_committed_params():
    check_links(read_written(), LINKS)


def test_what_the_table_names_has_an_entry_in_each_section():
    params = read_params()
    params["report"]["benchmarks"] = ["mtbench", "nothing", "ifevl"]
    found = [(fault.keys, fault.sentence) for fault in entry_faults(params)]
    for stage in ("task", "answer", "benchmark"):
        assert (("report", "benchmarks", 1), f"{stage} has no entry 'nothing'") in found
        assert (("report", "benchmarks", 2), f"{stage} has no entry 'ifevl' (did you mean 'ifeval'?)") in found
    assert (("report", "benchmarks", 2), "no module benchmarks/ifevl.py (did you mean 'ifeval'?)") in found
    assert len(found) == 8


def test_a_mixture_and_its_parts_name_each_other():
    part = {"both/own": {"data": "filter/chat"}, "both/old": {"data": "filter/old"}, "bothers/x": {"data": "filter/x"}}
    mixture = {"both": {"parts": {"own": {"count": 1}, "web": {"count": 2}}}, "bothers": {"parts": {"x": {"count": 1}}}}
    assert [(fault.keys, fault.sentence) for fault in part_faults({"part": part, "mixture": mixture})] == [
        (("mixture", "both", "parts", "web"), "no such part; add the entry `both/web: {data: ...}` to part"),
        (("part", "both/old"), "mixture.both.parts does not name this part; add it there with a weight or count"),
    ]


def test_seconds_and_memory_reach_the_report_alone():
    with Repo() as repo:
        stages = list(repo.index.stages)
    records = {
        (out.def_path, stage.name) for stage in stages for out in stage.outs if out.def_path.startswith("metrics/")
    }
    timed = {path for path, _ in records if path.count("/") <= 2 and not path.startswith(HEADLINES)}
    # Every kind of rung, and every record that is committed, is among them.
    assert {name for _, name in records if name.split("@")[0] in MAKES_A_RUNG} == {
        stage.name for stage in stages if stage.name.split("@")[0] in MAKES_A_RUNG
    }
    for path in Path("metrics").rglob("*.json"):
        assert path.as_posix() in timed or not {"seconds", "memory_gb"} & read_json(path).keys()
    readers = {
        stage.name
        for stage in stages
        for dep in stage.deps
        if any(path == dep.def_path or path.startswith(f"{dep.def_path}/") for path in timed)
    }
    assert readers == {f"provenance@{rung}" for rung in read_params()["report"]["rungs"]}
    assert {stage.name for stage in stages if any("data/provenance" in dep.def_path for dep in stage.deps)} == {
        "report"
    }


def test_the_metrics_are_few_flat_and_fit_a_screen():
    with Repo() as repo:
        metrics = {out.def_path for out in repo.index.metrics}
    assert metrics == {"metrics/report"}
    folders = [Path("metrics", name) for name in ("report", "benchmark", "heldout", "accuracy", "divergence", "gate")]
    files = [path for folder in folders for path in folder.rglob("*.json")] + list(Path("metrics").glob("[cj]*.json"))
    assert len(files) > 40
    for path in files:
        numbers = read_json(path)
        assert 1 <= len(numbers) <= 5 and all(isinstance(value, int | float) for value in numbers.values()), path
    shown = subprocess.run(["dvc", "metrics", "show"], capture_output=True, check=True, text=True).stdout.splitlines()
    assert len(shown) == 1 + len(read_params()["report"]["rungs"]) and max(map(len, shown)) <= 100


def test_the_recipes_fit_params(tmp_path, monkeypatch):
    from ladder.cli.recipe import recipe

    for name in ("dvc.yaml", "stages", "data"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    for path in (ROOT / "recipes").glob("*.yaml"):
        ground = ROOT / ("recipes/guide.yaml" if path.name == "gpu.yaml" else "params.yaml")
        Path("params.yaml").write_text(ground.read_text())
        assert recipe(path)
        changed = read_params()
        for stage, section in changed.items():
            kind = importlib.import_module(f"stages.{stage}").Params
            for name, entry in section.items() if has_entries(stage, STANZAS[stage]) else [(stage, section)]:
                fit(kind, entry, name)


def test_a_funnel_is_drawn_from_zero_in_the_order_of_its_steps():
    found = subprocess.run(
        ["dvc", "plots", "show", "--show-vega", "plots/filter/order.tsv"], capture_output=True, check=True, text=True
    )
    drawn = json.loads(found.stdout)["encoding"]
    assert drawn["y"]["field"] == "step" and drawn["y"]["sort"] is None  # keeps row order, otherwise alphabetical
    assert drawn["x"]["field"] == "rows" and "scale" not in drawn["x"]


def test_the_page_of_stages_shows_the_graph_as_it_is():
    assert picture() in Path("docs/stages.md").read_text()


def test_the_map_of_the_library_names_every_module_once():
    packages = Path("docs/architecture.md").read_text().partition("## Packages of ladder/")[2]
    named = re.findall(r"\]\(\.\./ladder/([\w/]+\.py)\)", packages)
    boxed = Path("ladder/verifiers/boxed")  # one entry, by its folder
    modules = [path for path in Path("ladder").rglob("*.py") if path.name != "__init__.py" and path.parent != boxed]
    assert sorted(named) == sorted(path.relative_to("ladder").as_posix() for path in modules)


def test_dropped_entries_are_one_line():
    assert leftovers(["merge@soup"]) == (
        "dvc.lock: outputs of entries that params.yaml no longer has remain: merge@soup. `ladder prune` removes them"
    )
    assert "remain: a@1, a@2, a@3 and 55 more. `" in leftovers([f"a@{number}" for number in range(1, 59)])


def test_how_scores_are_made_is_no_input_of_the_questions():
    imports = read_imports(map(Path, ("ladder", "stages", "benchmarks")))
    read = imported(Path("stages/questions.py"), imports) | imported(Path("benchmarks/ifeval.py"), imports)
    assert Path("ladder/eval/benchmark.py") in read
    assert not {Path("ladder/statistics.py"), Path("ladder/eval/scores.py"), Path("ladder/judges/judge.py")} & read
