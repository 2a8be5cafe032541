import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from dvc.exceptions import ReproductionError
from dvc.repo import Repo
from scipy import stats

from ladder.data.jsonl import read_json, write_json, write_rows
from ladder.pipeline.stage import UserError, fit
from stages import gate

ROOT = Path(__file__).parents[2]
MATHS = "heldout/problems/maths"
PATHS = [
    Path(name) for name in ("data/benchmark", "data/lm_eval", "data/heldout", "tax.md", "tax.json", "metrics.json")
]


def follow(path, followed):
    """IFEval's rows with single instructions: the headline is the share of 1 in `followed`."""
    pairs = [[float(one), 1.0] for one in followed]
    rows = [
        {"key": f"{n:02}", "measures": {"prompt_strict": pair, "instruction_strict": pair}}
        for n, pair in enumerate(pairs)
    ]
    write_rows(Path(path), rows)
    measures = ["prompt_strict", "instruction_strict"]
    headline = {"name": "mean_strict", "measures": measures, "unit": "%", "better": "higher"}
    write_json(Path(path).with_suffix(".json"), {"made_by": {"headline": headline}})


def solve(path, passed):
    rows = [{"id": f"{n:02}", "passed": [bool(one)], "tokens": 1, "finished": True} for n, one in enumerate(passed)]
    write_rows(Path(path), rows)


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """DPO loses 20 of 100 IFEval prompts and gains 2; it loses one of 60 problems."""
    monkeypatch.chdir(tmp_path)
    follow("data/benchmark/ifeval/sft/chat.jsonl", [1] * 60 + [0] * 40)
    follow("data/benchmark/ifeval/dpo/chat.jsonl", [0] * 20 + [1] * 40 + [1] * 2 + [0] * 38)
    solve("data/heldout/sft/chat/problems/maths.jsonl", [1] * 30 + [0] * 30)
    solve("data/heldout/dpo/chat/problems/maths.jsonl", [0] + [1] * 29 + [0] * 30)


def judge(*, strict=False, against="sft/chat", rung="dpo/chat", **allowed):
    """Return the metrics, and the error if there was one."""
    allowed = {MATHS if name == "maths" else name: points for name, points in allowed.items()}
    params = gate.Params(rung=rung, against=against, allowed=allowed, strict=strict)
    refusal = ""
    try:
        gate.main(params, *PATHS, tasks=["arc"])
    except UserError as refused:
        refusal = str(refused)
    return read_json(PATHS[-2]), refusal


def test_a_loss_is_judged_by_its_whole_interval(rows, capsys):
    change = np.array([-1.0] * 20 + [1] * 2 + [0] * 78)
    change = np.concatenate([change[:20], np.zeros(40), change[20:22], np.zeros(38)])
    expected = stats.bootstrap(
        (change,), np.mean, method="percentile", n_resamples=10_000, rng=np.random.default_rng(0)
    )
    low, high = (-100 * end for end in expected.confidence_interval[::-1])
    assert 9 < low < 11 and 25 < high < 28

    found, refusal = judge(ifeval=low - 0.5)
    assert (found["ifeval"]["loss"], found["ifeval"]["low"], found["ifeval"]["high"]) == pytest.approx((18, low, high))
    assert found["ifeval"]["p"] == pytest.approx(stats.binomtest(2, 22).pvalue, abs=4e-4)  # sampled
    assert found["ifeval"]["verdict"] == "lost too much"
    assert refusal == (
        f"dpo/chat against sft/chat: ifeval lost too much: 18.0 [{low:.1f}, {high:.1f}], {low - 0.5:g} allowed"
    )
    assert f"| ifeval | 60.0 | 42.0 | 18.0 [{low:.1f}, {high:.1f}] |" in capsys.readouterr().out

    found, refusal = judge(ifeval=low + 0.5)
    assert (found["ifeval"]["verdict"], refusal) == ("may have lost too much", "")
    assert "may have lost too much" in judge(ifeval=high - 0.5, strict=True)[1]
    found, refusal = judge(ifeval=high + 0.5, strict=True)
    assert (found["ifeval"]["verdict"], refusal) == ("held", "")


def test_each_row_is_judged_and_all_failures_are_named(rows):
    found, refusal = judge(maths=3, ifeval=3, strict=True)
    assert list(found) == [MATHS, "ifeval", "made_by"]
    assert f"{MATHS} may have lost too much: 1.7" in refusal and "ifeval lost too much: 18.0" in refusal
    assert Path("tax.md").read_text().startswith("# dpo/chat against sft/chat\n\n| benchmark | sft/chat | ")


def test_few_changed_prompts_do_not_prove_that_little_was_lost(rows):
    # One of 60 was lost: the bootstrap's upper end would be 3/60 = 5.0. Wilson's upper bound for 1 of 60 is 8.9.
    found, refusal = judge(maths=8, strict=True)
    bound = stats.binomtest(1, 60).proportion_ci(method="wilson").high
    assert found[MATHS]["high"] == pytest.approx(100 * bound, abs=1e-4)
    assert "may have lost too much" in refusal
    assert judge(maths=9, strict=True)[1] == ""


def test_four_losses_are_no_proof_where_none_is_allowed(rows):
    # All 95% of the bootstrap lie above 0, but the exact p of 4 to 0 is 2/2^4.
    solve("data/heldout/dpo/chat/problems/maths.jsonl", [0] * 4 + [1] * 26 + [0] * 30)
    found, refusal = judge(maths=0)
    assert (found[MATHS]["low"] > 0, found[MATHS]["p"], refusal) == (True, 0.125, "")


def test_a_benchmark_that_neither_solves_gives_no_signal(rows):
    for rung in ("sft/chat", "dpo/chat"):
        solve(f"data/heldout/{rung}/problems/maths.jsonl", [0] * 60)
    found, refusal = judge(maths=5)
    assert (found[MATHS]["verdict"], refusal) == ("no signal", "")
    counts = {"judged": 1, "held": 0, "lost_too_much": 0, "may_have_lost_too_much": 0, "no_signal": 1}
    assert read_json(PATHS[-1]) == counts
    assert "no signal" in judge(maths=5, strict=True)[1]
    solve("data/heldout/sft/chat/problems/maths.jsonl", [1] + [0] * 59)  # one solved, then none: a loss can be seen
    assert judge(maths=5)[0][MATHS]["verdict"] == "may have lost too much"


def test_a_gain_is_held(rows):
    found, refusal = judge(rung="sft/chat", against="dpo/chat", ifeval=0, strict=True)
    assert (found["ifeval"]["loss"], found["ifeval"]["verdict"], refusal) == (-18, "held", "")


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"allowed": {}}, "allowed: .*at least 1 item"),
        ({"allowed": {"ifeval": -1}}, r"allowed\.ifeval: .*greater than or equal to 0"),
        ({"allowed": {"ifeval": 1}, "points": 3}, "points: no such key"),
    ],
)
def test_a_section_that_makes_no_gate_is_refused(section, said):
    with pytest.raises(UserError, match=said):
        fit(gate.Params, {"rung": "dpo/chat", "against": "sft/chat", **section}, "gate.tax")


def test_rows_that_are_not_there_are_named(rows):
    with pytest.raises(UserError, match="data/benchmark/ifeval/dpo/maths.jsonl: no such file"):
        gate.main(
            gate.Params(rung="dpo/maths", against="sft/chat", allowed={"ifeval": 1}),
            *PATHS,
            tasks=[],
        )
    assert not Path("tax.json").exists()
    with pytest.raises(UserError, match="against: 'sft/caht' is no rung with rows of ifeval, and as a revision: "):
        gate.main(
            gate.Params(rung="dpo/chat", against="sft/caht", allowed={"ifeval": 1}),
            *PATHS,
            tasks=[],
        )


PIPELINE = """
stages:
  benchmark:
    cmd: mkdir -p data/benchmark/ifeval/dpo && cp made.jsonl data/benchmark/ifeval/dpo/chat.jsonl &&
      cp made.json data/benchmark/ifeval/dpo/chat.json
    deps: [made.jsonl]
    params: [benchmark, report.benchmarks, report.rungs]
    outs: [data/benchmark]
  gate:
    foreach: ${gate}
    do:
      cmd: python -m stages.gate ${key} data/benchmark data/lm_eval data/heldout report/gate/${key}.md
        report/gate/${key}.json metrics/gate/${key}.json
      deps: [data/benchmark, data/lm_eval, data/heldout]
      params: ["gate.${key}", lm_eval]
      outs:
      - report/gate/${key}.md: {cache: false}
      - report/gate/${key}.json: {cache: false}
      - metrics/gate/${key}.json: {cache: false}
"""
PARAMS = """
benchmark: {ifeval: {seed: 0}}
report: {benchmarks: [ifeval], rungs: [dpo/chat]}
lm_eval: {}
gate:
  since-v1: {rung: dpo/chat, against: v1, allowed: {ifeval: 5}}
"""


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


def test_a_gate_against_a_revision_fails_dvc_until_it_holds(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    git("init", "-q")
    git("config", "user.email", "user@example.org")
    git("config", "user.name", "user")
    Repo.init().close()
    Path("stages").symlink_to(ROOT / "stages")
    Path("data/lm_eval").mkdir(parents=True)
    Path("data/lm_eval/README.md").touch()
    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text(PARAMS)
    solve("data/heldout/sft/chat/problems/maths.jsonl", [1])
    follow("made.jsonl", [1] * 60 + [0] * 40)
    with Repo() as repo:
        repo.reproduce("benchmark")
    git("add", "-A")
    git("commit", "-qm", "one")
    git("tag", "v1")

    # Nothing changed, so nothing was lost, however few the prompts.
    found, refusal = judge(against="v1", ifeval=0, strict=True)
    assert (found["ifeval"]["high"], found["ifeval"]["verdict"], refusal) == (0, "held", "")
    assert found["made_by"]["commit"] == git("rev-parse", "v1")

    follow("made.jsonl", [0] * 20 + [1] * 40 + [0] * 40)
    with Repo() as repo, pytest.raises(ReproductionError, match="failed to reproduce 'gate@since-v1'"):
        repo.reproduce("gate@since-v1")
    out, err = capfd.readouterr()
    found = read_json(Path("report/gate/since-v1.json"))
    low, high = found["ifeval"]["low"], found["ifeval"]["high"]
    # Resamples lose Binomial(100, 0.2) prompts; its quantiles are 12 and 28, and P(X <= 12) = 0.0253 is sampled.
    assert (low, high) == pytest.approx(tuple(stats.binom.ppf([0.025, 0.975], 100, 0.2)), abs=1)
    assert f"| ifeval | 60.0 | 40.0 | 20.0 [{low:.1f}, {high:.1f}] | 0.0001 | 100 | 5 | lost too much |" in out
    assert f"gate: dpo/chat against v1: ifeval lost too much: 20.0 [{low:.1f}, {high:.1f}], 5 allowed" in err
    assert "benchmark" in Path("dvc.lock").read_text()
    assert "gate@" not in Path("dvc.lock").read_text()  # not recorded: the next run judges again
    with Repo() as repo:
        assert "gate@since-v1" in repo.status(["gate@since-v1"])


def test_what_could_not_be_scored_is_reported_and_fails_where_strict(rows):
    for rung in ("sft/chat", "dpo/chat"):
        write_rows(Path(f"data/benchmark/humaneval/{rung}.jsonl"), [])
        write_json(Path(f"data/benchmark/humaneval/{rung}.json"), {"absent": "no sandbox"})
    found, refusal = judge(ifeval=30, humaneval=5)
    assert (found["humaneval"], found["ifeval"]["verdict"], refusal) == ({"absent": "no sandbox"}, "held", "")
    assert "\nhumaneval: not judged: no sandbox\n" in Path("tax.md").read_text()
    for given in ({"ifeval": 30, "humaneval": 5, "strict": True}, {"humaneval": 5}):
        assert judge(**given)[1] == "dpo/chat: not judged: humaneval: no sandbox"


def test_a_task_of_lm_eval_is_judged_by_its_own_folder(rows):
    follow("data/lm_eval/arc/sft/chat.jsonl", [1] * 60)
    follow("data/lm_eval/arc/dpo/chat.jsonl", [1] * 60)
    found, refusal = judge(arc=5, strict=True)
    assert (found["arc"]["verdict"], found["arc"]["n"], refusal) == ("held", 60, "")
