import json
from pathlib import Path

import pytest

from ladder.data.jsonl import Row, read_json, read_rows, write_json, write_rows
from ladder.eval.compare import recorded
from ladder.eval.registry import benchmark
from ladder.pipeline.stage import UserError
from ladder.verifiers import sandbox
from stages.benchmark import Params, main

TASK: list[Row] = [
    {"key": 7, "prompt": "No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {
        "key": 8,
        "prompt": "JSON, no commas.",
        "instruction_id_list": ["detectable_format:json_format", "punctuation:no_comma"],
        "kwargs": [{}, {}],
    },
    {"key": 9, "prompt": "Not asked here.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
]


def answer(key: str, prompt: str, response: str, finished: bool = True) -> Row:
    facts = {"tokens": 10, "finished": finished}
    return {"key": key, "sample": 0, "turn": 0, "prompt": prompt, "response": response, **facts}


GOOD = [answer("8", "JSON, no commas.", 'Here:\n{"a": 1}'), answer("7", "No commas.", "None, sorry", finished=False)]


def score(folder: Path, answers: list[Row], params: Params = Params(resamples=1_000)) -> tuple[list[Row], Row]:  # noqa: B008
    """Run the stage; the folder's NLTK data is empty, because no instruction here counts sentences."""
    (folder / "punkt" / "tokenizers" / "punkt_tab" / "english").mkdir(parents=True)
    write_rows(folder / "ifeval.jsonl", TASK)
    write_rows(folder / "answers.jsonl", answers)
    write_json(folder / "ledger.json", {"method": "sft", "parent": "base", "loss": 1.5, "parameters": 9})
    inputs = (folder / "ifeval.jsonl", folder / "punkt", folder / "answers.jsonl", folder / "ledger.json")
    outputs = (folder / "out" / name for name in ("scores.jsonl", "summary.json", "metrics.json"))
    main(params, *inputs, folder / "models/base", *outputs)
    return read_rows(folder / "out" / "scores.jsonl"), json.loads((folder / "out" / "metrics.json").read_text())


def test_scores_and_metrics_by_hand(tmp_path: Path) -> None:
    scores, metrics = score(tmp_path, GOOD)
    assert [(row["key"], row["strict"], row["loose"], row["responses"], row["finished"]) for row in scores] == [
        ("8", [False, True], [True, True], [['Here:\n{"a": 1}']], [True]),
        ("7", [False], [False], [["None, sorry"]], [False]),
    ]
    assert scores[0]["measures"]["instruction_strict"] == [1.0, 2.0]
    # Strict: 0 of 2 prompts, 1 of 3 instructions. Loose: 1 of 2, 2 of 3.
    assert {name: value for name, value in metrics.items() if name not in ("interval", "groups", "made_by")} == {
        "mean_strict": 16.67, "prompt_strict": 0.0, "instruction_strict": 33.33,
        "mean_loose": 58.33, "prompt_loose": 50.0, "instruction_loose": 66.67,
    }  # fmt: skip
    headline = ["prompt_strict", "instruction_strict"]
    assert metrics["made_by"] == {
        "rows": 2, "of": 3, "finished": 50.0, "tokens": 10.0,
        "headline": {"name": "mean_strict", "measures": headline, "unit": "%", "better": "higher"},
        "lm_eval": "0.4.13", "resamples": 1000, "seed": 0,
        "rung": {"method": "sft", "parent": "base", "parameters": 9},
    }  # fmt: skip
    # Two prompts: resamples are (7, 7), (7, 8), (8, 8), and 0 of 2 has Wilson's interval [0, 65.76].
    interval = metrics["interval"]
    assert (interval["instruction_strict_low"], interval["instruction_strict_high"]) == (0.0, 50.0)
    assert (interval["prompt_strict_low"], interval["prompt_strict_high"]) == (0.0, 65.76)
    # Prompt 8 is in both families: 0 of 1 prompts, 1 of 2 instructions.
    assert metrics["groups"]["detectable_format"]["mean_strict"] == 25.0
    assert metrics["groups"]["punctuation"]["rows"] == 2


def test_the_same_answers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        score(tmp_path / name, GOOD)
    for file in ("scores.jsonl", "metrics.json"):
        assert (tmp_path / "one" / "out" / file).read_bytes() == (tmp_path / "two" / "out" / file).read_bytes()
    assert (tmp_path / "one/out/summary.json").read_bytes() == (tmp_path / "one/out/metrics.json").read_bytes()


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([*GOOD, answer("5", "Who?", "x")], r"answers.jsonl: row 3: key '5': no such question in the benchmark"),
        ([*GOOD, GOOD[0]], r"row 3: key '8' is already answered in row 1"),
        ([answer("7", "No commas!", "x")], r"row 1: its prompt differs from the prompt of its key in .*ifeval.jsonl"),
        ([{**GOOD[0], "response": None}], r"row 1: expected 'response' of type str"),
        ([{**GOOD[0], "tokens": None}], r"row 1: expected 'tokens' of type int"),
    ],
)
def test_refuses_answers_that_are_not_this_tasks(tmp_path: Path, answers: list[Row], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        score(tmp_path, answers)
    assert not (tmp_path / "out").exists()


def test_what_this_machine_cannot_score_is_absent_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def needs() -> None:
        raise UserError("no sandbox here")

    monkeypatch.setattr("benchmarks.ifeval.needs", needs, raising=False)
    with pytest.raises(UserError, match="scores.jsonl: no rows"):
        score(tmp_path, GOOD)
    metrics = read_json(tmp_path / "out/metrics.json")
    assert metrics == {
        "absent": "no sandbox here",
        "made_by": {"rung": {"method": "sft", "parent": "base", "parameters": 9}},
    }
    assert capsys.readouterr().out == "ifeval: not scored: no sandbox here\n"
    with pytest.raises(UserError, match="metrics.json: not scored: no sandbox here"):
        recorded(metrics, "metrics.json")


def test_programs_that_a_model_wrote_need_a_sandbox() -> None:
    for name in ("humaneval", "mbpp"):
        assert benchmark(name).needs is sandbox.isolation
