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
SUMS: list[Row] = [{"question": "1+1?", "answer": "#### 2"}]
SURE = {"resamples": 1_000}


def answer(key: str, prompt: str, response: str, finished: bool = True) -> Row:
    facts = {"tokens": 10, "finished": finished}
    return {"key": key, "sample": 0, "turn": 0, "prompt": prompt, "response": response, **facts}


GOOD = [answer("8", "JSON, no commas.", 'Here:\n{"a": 1}'), answer("7", "No commas.", "None, sorry", finished=False)]


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two benchmarks and their code lists. The folder of NLTK data is empty, as no instruction here counts sentences.

    models/base is a description alone: no judge is asked anything here.
    """
    monkeypatch.chdir(tmp_path)
    Path("punkt/tokenizers/punkt_tab/english").mkdir(parents=True)
    write_rows(Path("task/ifeval.jsonl"), TASK)
    write_rows(Path("task/gsm8k.jsonl"), SUMS)
    for name in ("benchmark", "benchmarks/ifeval", "benchmarks/gsm8k"):
        Path(f"code/{name}.txt").parent.mkdir(exist_ok=True, parents=True)
        Path(f"code/{name}.txt").write_text(f"00  {name}.py\n")


def score(
    answers: dict[str, list[Row]], *, benchmarks: tuple[str, ...] = ("ifeval",), out: str = "out", **entries: Row
) -> None:
    """Run the stage on each rung's answers to IFEval."""
    for rung, rows in answers.items():
        write_rows(Path(f"answers/{rung}/ifeval.jsonl"), rows)
    params = Params.model_validate({name: entries.get(name, SURE) for name in benchmarks})
    inputs = ("code/benchmark.txt", "code/benchmarks", "task", "punkt", "answers", "models/base")
    outputs = (f"{out}/scored", f"{out}/cells.json", f"{out}/metrics")
    main(params, *map(Path, (*inputs, *outputs)), benchmarks=list(benchmarks), rungs=list(answers))


def scored(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """The cells that ran, and why."""
    lines = [line for line in capsys.readouterr().out.splitlines() if ": scoring (" in line]
    return dict(line.removesuffix(")").split(": scoring (") for line in lines)


def test_scores_and_metrics_by_hand() -> None:
    score({"sft/chat": GOOD})
    scores, summary = (
        read_rows(Path("out/scored/ifeval/sft/chat.jsonl")),
        read_json(Path("out/scored/ifeval/sft/chat.json")),
    )
    assert [(row["key"], row["strict"], row["loose"], row["responses"], row["finished"]) for row in scores] == [
        ("8", [False, True], [True, True], [['Here:\n{"a": 1}']], [True]),
        ("7", [False], [False], [["None, sorry"]], [False]),
    ]
    assert scores[0]["measures"]["instruction_strict"] == [1.0, 2.0]
    # Strict: 0 of 2 prompts, 1 of 3 instructions. Loose: 1 of 2, 2 of 3.
    numbers = {
        "mean_strict": 16.67, "mean_loose": 58.33, "prompt_strict": 0.0, "instruction_strict": 33.33,
        "prompt_loose": 50.0, "instruction_loose": 66.67,
    }  # fmt: skip
    assert {name: value for name, value in summary.items() if name not in ("interval", "groups", "made_by")} == numbers
    # The file in git: five numbers, the headline first, and nothing else.
    metrics = read_json(Path("out/metrics/ifeval/sft/chat.json"))
    assert list(metrics.items()) == list(numbers.items())[:5]
    headline = ["prompt_strict", "instruction_strict"]
    assert summary["made_by"] == {
        "rows": 2, "of": 3, "finished": 50.0, "tokens": 10.0,
        "headline": {"name": "mean_strict", "measures": headline, "unit": "%", "better": "higher"},
        "lm_eval": "0.4.13", "resamples": 1000, "seed": 0,
    }  # fmt: skip
    # Two prompts: resamples are (7, 7), (7, 8), (8, 8), and 0 of 2 is Wilson's [0, 65.76].
    interval = summary["interval"]
    assert (interval["instruction_strict_low"], interval["instruction_strict_high"]) == (0.0, 50.0)
    assert (interval["prompt_strict_low"], interval["prompt_strict_high"]) == (0.0, 65.76)
    # Prompt 8 is of both families: 0 of 1 prompts, 1 of 2 instructions.
    assert summary["groups"]["detectable_format"]["mean_strict"] == 25.0
    assert summary["groups"]["punctuation"]["rows"] == 2


def files(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def test_exactly_the_touched_cells_are_scored_again(capsys: pytest.CaptureFixture[str]) -> None:
    both, rungs = ("ifeval", "gsm8k"), {"base": GOOD, "sft/chat": GOOD}
    (asked,) = benchmark("gsm8k").questions(SUMS)
    for rung in rungs:
        write_rows(Path(f"answers/{rung}/gsm8k.jsonl"), [answer(asked.key, asked.turns[0], "#### 2")])
    score(rungs, benchmarks=both)
    assert scored(capsys) == {f"{name} {rung}": "new" for name in both for rung in rungs}
    score(rungs, benchmarks=both)
    assert scored(capsys) == {}
    # One rung's answers.
    score({**rungs, "sft/chat": GOOD[:1]}, benchmarks=both)
    assert scored(capsys) == {"ifeval sft/chat": "answers changed"}
    # A benchmark's code; its settings, here a judge that it does not ask; a published row.
    Path("code/benchmarks/ifeval.txt").write_text("11  benchmarks/ifeval.py\n")
    score({**rungs, "sft/chat": GOOD[:1]}, benchmarks=both)
    assert scored(capsys) == {f"ifeval {rung}": "code changed" for rung in rungs}
    judged = {"judge": {"endpoint": {"base_url": "http://localhost:1/v1", "model": "m"}}, **SURE}
    score({**rungs, "sft/chat": GOOD[:1]}, benchmarks=both, gsm8k=judged)
    assert scored(capsys) == {f"gsm8k {rung}": "entry changed" for rung in rungs}
    write_rows(Path("task/ifeval.jsonl"), [*TASK[:2], {**TASK[2], "prompt": "Not asked."}])
    score({**rungs, "sft/chat": GOOD[:1]}, benchmarks=both, gsm8k=judged)
    assert scored(capsys) == {f"ifeval {rung}": "task changed" for rung in rungs}
    # The code that all share, and the sentence model.
    Path("code/benchmark.txt").write_text("11  ladder/statistics.py\n")
    Path("punkt/new").touch()
    score({**rungs, "sft/chat": GOOD[:1]}, benchmarks=both, gsm8k=judged)
    assert scored(capsys) == {f"{name} {rung}": "code, punkt changed" for name in both for rung in rungs}
    # What is no longer listed goes, and the rest has the bytes of a run from nothing.
    score({"base": GOOD}, benchmarks=("ifeval",))
    assert scored(capsys) == {}
    score({"base": GOOD}, benchmarks=("ifeval",), out="again")
    kept, again = files("out"), files("again")
    assert set(kept) == {
        "cells.json",
        "metrics/ifeval/base.json",
        "scored/ifeval/base.json",
        "scored/ifeval/base.jsonl",
    }
    index = kept.pop("cells.json"), again.pop("cells.json").replace(b'"again/', b'"out/')
    assert kept == again and index[0] == index[1]


def test_a_killed_run_keeps_its_finished_cells(capsys: pytest.CaptureFixture[str]) -> None:
    bad = [answer("7", "No commas!", "x")]
    with pytest.raises(UserError, match="its prompt differs from the prompt of its key"):
        score({"base": GOOD, "sft/chat": bad})
    assert scored(capsys) == {"ifeval base": "new", "ifeval sft/chat": "new"}
    score({"base": GOOD, "sft/chat": GOOD})
    assert scored(capsys) == {"ifeval sft/chat": "new"}


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        ([*GOOD, answer("5", "Who?", "x")], r"base/ifeval.jsonl: row 3: key '5': no such question in the benchmark"),
        ([*GOOD, GOOD[0]], r"row 3: key '8' is already answered in row 1"),
        ([answer("7", "No commas!", "x")], r"row 1: its prompt differs from the prompt of its key in .*ifeval.jsonl"),
        ([{**GOOD[0], "response": None}], r"row 1: expected 'response' of type str"),
        ([{**GOOD[0], "tokens": None}], r"row 1: expected 'tokens' of type int"),
    ],
)
def test_refuses_answers_that_are_not_this_tasks(answers: list[Row], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        score({"base": answers})
    assert not Path("out").exists()


def test_a_benchmark_without_an_entry_is_refused() -> None:
    write_rows(Path("answers/base/ifeval.jsonl"), GOOD)
    paths = map(Path, ("code/benchmark.txt", "code/benchmarks", "task", "punkt", "answers", "b", "o", "c.json", "m"))
    with pytest.raises(UserError, match="report.benchmarks: expected names with an entry in benchmark, got 'ifeval'"):
        main(Params(), *paths, benchmarks=["ifeval"], rungs=["base"])


def test_what_this_machine_cannot_score_is_absent_says_why_and_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def needs() -> None:
        raise UserError("no sandbox here")

    monkeypatch.setattr("benchmarks.ifeval.needs", needs, raising=False)
    score({"base": GOOD})
    with pytest.raises(UserError, match="base.jsonl: no rows"):
        read_rows(Path("out/scored/ifeval/base.jsonl"))
    summary = json.loads(Path("out/scored/ifeval/base.json").read_text())
    assert summary == read_json(Path("out/metrics/ifeval/base.json")) == {"absent": "no sandbox here"}
    assert capsys.readouterr().out == "ifeval base: not scored: no sandbox here\n"
    with pytest.raises(UserError, match="metrics.json: not scored: no sandbox here"):
        recorded(summary, "metrics.json")
    monkeypatch.setattr("benchmarks.ifeval.needs", lambda: None, raising=False)
    score({"base": GOOD})
    assert scored(capsys) == {"ifeval base": "not scored before"}
    assert len(read_rows(Path("out/scored/ifeval/base.jsonl"))) == 2


def test_a_judge_in_this_process_is_an_input(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("models").mkdir()
    Path("models/base").symlink_to(base)
    score({"base": GOOD}, ifeval={"judge": {}, **SURE})
    assert scored(capsys) == {"ifeval base": "new"}
    record = read_json(base / "rung.json")
    Path("models/base").unlink()
    write_json(Path("models/base/rung.json"), {**record, "parameters": 1})
    # Another model under the same name: `read_description` gives its identity, and then nothing can judge.
    with pytest.raises(UserError, match="models/base"):
        score({"base": GOOD}, ifeval={"judge": {}, **SURE})
    assert scored(capsys) == {"ifeval base": "judge changed"}


def test_programs_that_a_model_wrote_need_a_sandbox() -> None:
    for name in ("humaneval", "mbpp"):
        assert benchmark(name).needs is sandbox.isolation
