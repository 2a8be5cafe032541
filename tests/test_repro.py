"""The whole ladder on a pico model: runs, does nothing the second time, and reruns exactly what a change affects."""

import json
import re
import shutil
import subprocess

import pytest
from pico_ladder import Ladder

from ladder.models.checkpoint import read_rung
from perf.pico import lay_out

BELOW_DPO = {
    "dpo@chat", "teacher_logits@chat", "distill@small", "answer@dpo/chat", "answer@distill/small", "benchmark",
    "provenance@dpo/chat", "provenance@distill/small", "report",
}  # fmt: skip
ABOVE_DPO = {
    "code", "base", "task", "punkt", "prompts", "generate@chat", "filter@chat", "prune_layers@small", "sft@chat",
    "preferences@chat", "reference_logprobs@chat", "questions", "answer@base", "provenance@base",
}  # fmt: skip
METHODS = {
    "sft", "dpo", "simpo", "orpo", "kto", "reward", "grpo", "rloo", "ppo", "distill", "distill_features", "gkd",
    "merge", "speculate", "heldout_prompts", "heldout", "accuracy", "divergence", "claims", "judge_reliability",
    "gate", "card",
}  # fmt: skip


WORDS = "heldout/problems/words-heldout"
GUIDE = {
    "heldout": ["sft/words", "grpo/words"],
    "accuracy": ["sft/words", "dpo/words"],
    "divergence": ["sft/student", "gkd/onpolicy"],
    "claims": [
        {"rung": "grpo/words", "against": "sft/words", "measure": WORDS, "better": "higher"},
        {"rung": "dpo/words", "against": "chance", "measure": "accuracy", "better": "higher"},
        {"rung": "gkd/onpolicy", "against": "sft/student", "measure": "divergence", "better": "lower"},
        {"rung": "reward/words", "against": "chance", "measure": "reward", "better": "higher"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def ladder(tmp_path_factory, stage_programs):
    root = tmp_path_factory.mktemp("ladder")

    def guided(params):
        for name, rungs in GUIDE.items():
            params["claims"][name] = rungs

    lay_out(root, guided)
    made = Ladder(root, stage_programs)
    made.call("git", "add", "-A")
    made.call("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "pico")
    return made


@pytest.fixture(scope="module")
def climbed(ladder):
    assert ladder.ladder("check") == ""
    assert set(ladder.repro("report")) == (ABOVE_DPO | BELOW_DPO) - {"code"}  # `ladder check` has run it
    return ladder


def test_the_ladder_climbs_and_then_has_nothing_to_do(climbed):
    assert climbed.repro("report") == []
    assert "dpo/chat" in climbed.ladder("table")
    parents = read_rung(climbed.root / "models/distill/small").parents
    assert parents["dpo/chat"] == read_rung(climbed.root / "models/dpo/chat").identity


def test_a_comment_changes_nothing(climbed):
    path = climbed.root / "params.yaml"
    path.write_text("# a comment\n" + path.read_text())
    assert climbed.repro("report") == ["code"]  # it checks the names in params.yaml again, and writes the same files
    assert climbed.repro("report") == []


def test_a_sweep_point_adds_its_adapter_alone_to_the_cache(climbed):
    before = climbed.cached_bytes()
    climbed.call("dvc", "exp", "run", "--temp", "-S", "sft.chat.lora.r=3", "sft@chat")
    rung = json.loads((climbed.root / "models/sft/chat/rung.json").read_text())
    adapter = rung["files"]["adapter_model.safetensors"]["bytes"] * 3 // 2
    base = read_rung(climbed.root / "models/base").files["model.safetensors"].bytes
    added = climbed.cached_bytes() - before
    assert 0 < added < adapter + 20_000 < base


def test_a_param_of_dpo_touches_what_is_below_it_and_not_the_reference(climbed):
    climbed.change(lambda params: params["dpo"]["chat"]["trainer"].update(beta=0.3))
    # Only the report may not be skipped: without changed answers, its inputs differ at most in seconds.
    assert {*climbed.repro("report"), "report"} == BELOW_DPO | {"code"}


def test_an_edit_of_a_benchmark_scores_again_and_generates_nothing(climbed):
    cells = {f"ifeval {rung}: scoring (code changed)" for rung in ("base", "dpo/chat", "distill/small")}
    for name, edit, ran, scored in (
        ("ifbench", "AGAIN = True", {"questions", "benchmark"}, set()),
        ("ifeval", "# read again", set(), set()),
        ("ifeval", "AGAIN = True", {"questions", "benchmark"}, cells),
    ):
        path = climbed.root / f"benchmarks/{name}.py"
        path.write_text(f"{path.read_text()}\n{edit}\n")
        said = climbed.call("dvc", "repro", "report")
        assert set(re.findall(r"Running stage '(.+?)':", said)) == {"code"} | ran
        assert set(re.findall(r"^.*: scoring \(.*\)$", said, re.MULTILINE)) == scored


def test_a_changed_row_of_a_local_file_is_noticed(climbed):
    path = climbed.root / "data/raw/quiz.jsonl"
    before = path.read_text()
    path.write_text(before.replace("Quiz 3?", "Quiz three?"))
    assert "data/raw" in climbed.call("dvc", "status", "code")
    assert {"code", "task", "questions", "answer@base", "benchmark"} <= set(climbed.repro("report"))
    path.write_text(before)
    climbed.repro("report")
    assert climbed.repro("report") == []


def test_one_row_of_data_touches_all_below_it_and_gives_the_same_bytes_when_taken_back(climbed):
    before = climbed.outputs()
    path = climbed.root / "data/seeds/constraints.yaml"
    text = path.read_text()
    line = next(line for line in text.splitlines() if line.startswith("    - ") and used(line, climbed.root))
    path.write_text(text.replace(line, line + " Thank you."))
    untouched = {"code", "base", "task", "punkt", "prune_layers@small", "questions", "answer@base", "provenance@base"}
    assert set(climbed.repro("report")) == (ABOVE_DPO | BELOW_DPO) - untouched
    path.write_text(text)
    # Models and data come back from the run cache. Scores are computed again: a folder that DVC keeps between runs has
    # no run cache. The report shows seconds.
    assert set(climbed.repro("report")) <= {"benchmark", "report", "answer@dpo/chat", "answer@distill/small"}
    assert climbed.outputs() == before


def used(line, root):
    """Return a wording that some prompt of the sft split uses: the words before its first slot are in prompts.jsonl."""
    words = line.removeprefix("    - ").split("{")[0]
    prompts = (root / "data/prompts.jsonl").read_text().splitlines()
    plain = len(words) > 12 and not {"'", '"'} & set(line)
    return plain and any(words in prompt and '"split": "sft"' in prompt for prompt in prompts)


MISSPELT = {"rung": "grpo/words", "against": "sft/words", "measure": "heldout/words", "better": "higher"}
FAULTS = [
    (
        "dpo.chat.parent",
        "sft/chta",
        "dpo.chat.parent: dpo@chat needs models/sft/chta, which no stage makes (did you mean 'sft/chat'?); rungs are",
    ),
    (
        "report.benchmarks",
        ["quiz"],
        "report.benchmarks.0: no module benchmarks/quiz.py",
    ),
    (
        "report.rungs",
        ["base", "sft/old"],
        "report.rungs.1: answer@sft/old needs models/sft/old, which no stage makes",
    ),
    ("sft.chat.parent", "sft/chat", "sft@chat"),
    (
        "sft.chat.parent",
        "dpo/chat",
        "params.yaml: a rung is its own ancestor: look at the parents of dpo@chat, sft@chat",
    ),
    ("dpo.chat.trainer.betta", 1, "dpo.chat.trainer: betta: no such argument of DPOConfig"),
    ("dpo.chat.trainer.beta", "x", "dpo.chat.trainer: beta: expected a valid number"),
    ("sft.chat.lora.rank", 3, "sft.chat.lora: rank: no such argument of LoraConfig"),
    (
        "prune_layers",
        {},
        "distill.small.parent: distill@small needs models/prune_layers/small, which no stage makes",
    ),
    ("mreg", {}, "mreg: no stage is named 'mreg' (did you mean 'merge'?)"),
    ("claims.claims", [MISSPELT], "claims.claims.0: no stage measures 'heldout/words' (did you mean"),
]


def test_a_name_that_a_shell_would_run_runs_nothing(climbed):
    path = climbed.root / "params.yaml"
    before = path.read_text()

    def outcome(edit, *command):
        climbed.change(edit)
        said = climbed.call(*command, code=255 if command[0] == "dvc" else 1)
        path.write_text(before)
        assert "Running stage 'sft" not in said and not list(climbed.root.rglob("PWN*"))
        return said

    def named(params):
        params["sft"]["x; touch PWN; "] = dict(params["sft"]["chat"])

    def parent(params):
        params["sft"]["chat"]["parent"] = "base $(touch PWN)"

    assert "is ignored by .dvcignore" in outcome(named, "dvc", "repro", "report")
    named_target = ("dvc", "repro", "--single-item", "--force", "sft@x; touch PWN; ")
    assert "is ignored by .dvcignore" in outcome(named, *named_target)
    assert "sft.chat.parent: expected a name such as sft/chat" in outcome(parent, "dvc", "repro", "report")
    for edit, key in ((named, "sft.x; touch PWN; "), (parent, "sft.chat.parent")):
        assert f"{key}: " in outcome(edit, "python", "-m", "ladder", "check")
    climbed.repro("report")


def put(params, key, value):
    *path, last = key.split(".")
    for name in path:
        params = params[name]
    params[last] = value


@pytest.mark.parametrize(("key", "value", "said"), FAULTS)
def test_a_fault_is_found_before_anything_runs(climbed, key, value, said):
    paths = [climbed.root / name for name in ("params.yaml", "links.yaml")]
    before = [path.read_text() for path in paths]
    climbed.change(lambda params: put(params, key, value))
    found = climbed.ladder("check", code=1)
    for path, text in zip(paths, before, strict=True):
        path.write_text(text)
    assert said in found and "Traceback" not in found


def test_pushed_and_pulled_outputs_need_no_stage(climbed, tmp_path):
    climbed.call("dvc", "remote", "add", "-f", "-d", "local", str(tmp_path / "remote"))
    climbed.call("dvc", "push", "-q")
    before = climbed.outputs()
    for name in ("code", "models", ".dvc/cache"):
        subprocess.run(["chmod", "-R", "u+w", climbed.root / name], check=True)
        shutil.rmtree(climbed.root / name)
    for path in (climbed.root / "data").iterdir():
        if path.name not in ("prompts", "raw", "seeds", "templates", "lm_eval", "reward"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    climbed.call("dvc", "pull", "-q", "--with-deps", "report")  # the other methods have not run yet
    assert climbed.repro("report") == [] and climbed.outputs() == before


@pytest.fixture(scope="module")
def guided(climbed):
    """The ladder with every method, and the stages that ran for it."""
    return climbed, climbed.repro()


def test_every_method_of_the_guide_climbs_and_is_on_its_page(guided):
    climbed, ran = guided
    assert {name.split("@")[0] for name in ran} >= METHODS
    assert climbed.repro() == []
    found = json.loads((climbed.root / "report/claims.json").read_text())
    assert [claim["n"] for claim in found["claims"][::2]] == [4, 4]
    assert set(found["rungs"]) >= {"sft/words", "grpo/words", "reward/words", "gkd/onpolicy"}


def test_prune_drops_a_rung_that_params_no_longer_name(guided):
    climbed, _ = guided
    climbed.change(lambda params: params["merge"].pop("soup"))
    reported = climbed.ladder("check")
    assert reported == (
        "dvc.lock: outputs of entries that params.yaml no longer has remain: merge@soup, merge_input@soup/0, "
        "merge_input@soup/1. `ladder prune` removes them\n"
    )
    assert climbed.ladder("prune") == ("removed merge@soup\nremoved merge_input@soup/0\nremoved merge_input@soup/1\n")
    assert not (climbed.root / "models/merge/soup").exists()
    assert climbed.ladder("check") == ""
    assert climbed.repro() == []
