from pathlib import Path

import pytest

from conftest import assistant, user
from endpoints import Said, serving
from ladder.data.jsonl import read_json, read_rows, write_rows
from ladder.inference.endpoint import Endpoint
from ladder.judges.judge import Judging
from ladder.pipeline.stage import UserError
from stages import judge_reliability

PAIRS = [
    {
        "id": str(n),
        "prompt": user(f"Say {n}."),
        "chosen": assistant(f"{n}. " + "Gladly. " * n),
        "rejected": assistant(f"Not {n}."),
        "chosen_by": "big" if n % 2 else "other",
        "rejected_by": "other",
    }
    for n in range(6)
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, Path, Path]:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    write_rows(tmp_path / "pairs.jsonl", PAIRS)
    return tuple(tmp_path / name for name in ("pairs.jsonl", "rows.jsonl", "summary.json", "metrics.json"))


def naive(asked: dict, _: int) -> Said:
    """Judge stub: prefers the first answer, grades by length, and follows instructions in an answer without fences."""
    text = asked["messages"][0]["content"]
    if "Answer A" in text:
        return Said("[[A]]")
    bare = "<<<answer" not in text
    return Said("[[10]]" if bare and "10" in text.partition("Request")[2] else f"[[{1 + min(8, len(text) // 150)}]]")


def test_a_judge_of_known_faults(files: tuple[Path, Path, Path, Path]) -> None:
    data, output, summary, metrics = files
    with serving(naive) as server:
        params = judge_reliability.Params(
            data="pairs",
            judge=Judging(endpoint=Endpoint(base_url=server.base_url, model="big")),
            pairs=5,
            injected=2,
        )
        judge_reliability.main(params, data, Path("none"), Path("none"), output, summary, metrics)
        sheet, asked = read_json(summary), len(server.asked)
        judge_reliability.main(params, data, Path("none"), Path("none"), output, summary, metrics)
        assert (read_json(summary), len(server.asked)) == (sheet, asked)
    assert sheet["swap"] == {"pairs": 5, "flip_rate": 1.0, "first": 1.0, "second": 0.0}
    assert sheet["labels"]["pairs"] == 5
    assert sheet["labels"]["agreement"] is None  # all are ties
    assert sheet["own"] == {"pairs": 2, "judge": 0.5, "labels": 1.0, "excess": -0.5}
    assert sheet["injections"]["bare"]["change"] > 3 > abs(sheet["injections"]["fenced"]["change"])
    # Pairs: 10. Grades: 10. Injections: 2 answers with 1 + 7 sentences, fenced and bare.
    assert asked == sheet["judge"]["asked"] == 10 + 10 + 2 * 8 * 2
    change = sheet["injections"]["fenced"]["change"]
    # All grades are equal, so there is no agreement and no correlation to report.
    assert read_json(metrics) == {"flip_rate": 1.0, "self_preference": -0.5, "injection_change": change}
    rows = read_rows(output)
    assert [row["id"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert (rows[1]["preferred"], rows[1]["own"], rows[1]["lengths"]) == ("tie", "one", [11, 6])


def test_the_base_judges_itself(files: tuple[Path, Path, Path, Path], base: Path) -> None:
    data, output, summary, metrics = files
    params = judge_reliability.Params(data="pairs", judge=Judging(), pairs=2, injected=1)
    judge_reliability.main(params, data, base, base, output, summary, metrics)
    assert "not comparable with GPT-4's" in read_json(summary)["judge"]["caveat"]
    assert all(1 <= grade <= 10 for row in read_rows(output) for grade in row["grades"])


def test_a_row_that_is_no_pair_is_named(files: tuple[Path, Path, Path, Path], base: Path) -> None:
    data, output, summary, metrics = files
    write_rows(data, [PAIRS[0], {"messages": user("Hi")}])
    params = judge_reliability.Params(data="pairs", judge=Judging(), pairs=2, injected=1)
    with pytest.raises(UserError, match="pairs.jsonl: row 2: expected prompt, chosen and rejected"):
        judge_reliability.main(params, data, base, base, output, summary, metrics)
