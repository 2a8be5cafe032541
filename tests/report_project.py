"""A small project of git and DVC with results, as the stages write them, for tests of the page of `ladder report`."""

import json
import subprocess
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from ladder.data.jsonl import write_json, write_rows

HOSTILE = "sft/</script><img src=x onerror=alert(1)>"
"""Name of a rung that ends a script element and would run a script."""
BEFORE = [1] * 12 + [0] * 4
AFTER = [0] * 10 + [1] * 2 + [1] * 3 + [0]
"""Which of 16 questions the base and the hostile rung solve: 10 lost, 3 gained."""
PIPELINE = """
stages:
  benchmark:
    cmd: "true"
    params: [report.benchmarks, report.rungs]
    outs: [data/benchmark]
  sft:
    foreach: [a]
    do:
      cmd: "true"
      plots: ["plots/sft/${item}.tsv": {cache: false, x: step, y: loss, y_label: loss (nats per token)}]
"""
HEADLINE = {"name": "solved", "measures": ["solved"], "unit": "%", "better": "higher"}
COMMON = "def f(x):\n```python\nprint(1)\n```\nAll of these words are equal."


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


def text(rung: str, number: int) -> str:
    """The answer of a rung to a question: texts that differ in words, one of them hostile."""
    return (
        f"{COMMON} Number {number} is {'base' if rung == 'base' else '</script><img src=x onerror=alert(2)>'} \u202eend"
    )


def scores(rung: str, solved: list[int]) -> None:
    rows = [
        {
            "key": f"q{number}", "group": "made", "verdicts": [["sample 1", bool(right)]],
            "measures": {"solved": [float(right), 1.0]}, "prompt": f"Question {number}?", "follow_ups": [],
            "responses": [[text(rung, number)]], "tokens": [7], "finished": [True],
        }
        for number, right in enumerate(solved)
    ]  # fmt: skip
    made_by = {"rows": 16, "of": 20, "headline": HEADLINE}
    path = Path(f"data/benchmark/made/{rung}.jsonl")
    write_rows(path, rows)
    write_json(path.with_suffix(".json"), {"solved": 100 * sum(solved) / 16, "made_by": made_by})


def line(rung: str, solved: list[int], change: dict[str, Any] | None) -> dict[str, Any]:
    made_by = {"rows": 16, "of": 20, "headline": HEADLINE}
    score = {"score": 100 * sum(solved) / 16, "interval": [10.0, 90.0], "made_by": made_by, "against_baseline": change}
    above = "" if rung == "base" else "base"
    return {"rung": rung, "method": "sft", "parent": above, "baseline": above, "benchmarks": {"made": score}}


def results(after: list[int]) -> None:
    """Write the results of the base and the hostile rung."""
    lost = {"difference": -43.75, "low": -75.0, "high": -6.25, "p": 0.09229, "p_holm": 0.09229}
    counts = {"gained": 3, "lost": 10, "n": 16, "verdict": "no significant difference"}
    scores("base", BEFORE)
    scores(HOSTILE, after)
    write_json(Path("report/table.json"), [line("base", BEFORE, None), line(HOSTILE, after, lost | counts)])


def project(folder: Path) -> None:
    """Write the project into the current folder, with two commits v1 and v2 whose answers are in DVC's cache."""
    git("init", "-q")
    git("config", "user.email", "user@example.org")
    git("config", "user.name", "user")
    Repo.init().close()
    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text(json.dumps({"report": {"benchmarks": ["made"], "rungs": ["base", HOSTILE]}}))
    Path("plots/sft").mkdir(parents=True)
    curve = "\n".join(f"{step}\t{1 / step:.6g}\t{'nan' if step % 2 else 0.5}" for step in range(1, 11))
    Path("plots/sft/a.tsv").write_text(f"step\tloss\tvalidation_loss\n{curve}\n")
    Path("plots/filter").mkdir()
    Path("plots/filter/web.tsv").write_text("step\trows\nin\t10\nlength\t4\nexact\t4\n")
    for tag, after in (("v1", BEFORE), ("v2", AFTER)):
        results(after)
        with Repo() as repo:
            repo.commit("benchmark", force=True)
        git("add", "-A")
        git("commit", "-qm", tag)
        git("tag", tag)
