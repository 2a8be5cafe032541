"""Answers of all rungs as data for the browser of the page. Texts are untrusted; the script shows them as text."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ladder.data.jsonl import Row
from ladder.eval.revisions import BENCHMARK, LM_EVAL
from ladder.report.html_page import INVISIBLE
from ladder.report.page_files import Files
from ladder.report.page_matrix import Benchmark, Line

NEEDED = {"key", "prompt", "measures", "responses"}
"""Fields of a row of scores that the page needs."""


class Column(NamedTuple):
    """A rung at a revision, as the browser names it."""

    name: str
    rung: str
    side: int
    base: int
    """Place of the column that it is compared with; -1 without one."""
    benchmarks: frozenset[str]
    """Benchmarks on which the table has the rung."""


def columns(sides: Sequence[Sequence[Line]], labels: Sequence[str]) -> list[Column]:
    """Return the columns of the browser.

    One side: each rung, compared with its baseline. Two sides: the rungs of both, each compared with the same rung on
    the first side.
    """
    rungs = [str(line["rung"]) for line in sides[0]]
    place = {rung: number for number, rung in enumerate(rungs)}
    scored = [[frozenset(line["benchmarks"]) for line in lines] for lines in sides]
    if len(sides) == 1:
        bases = [place.get(line["baseline"], -1) for line in sides[0]]
        of_one = zip(rungs, bases, scored[0], strict=True)
        return [Column(rung, rung, 0, base, on) for rung, base, on in of_one]
    found = [Column(f"{rung} at {labels[0]}", rung, 0, -1, on) for rung, on in zip(rungs, scored[0], strict=True)]
    for line, on in zip(sides[1], scored[1], strict=True):
        rung = str(line["rung"])
        found.append(Column(f"{rung} at {labels[1]}", rung, 1, place.get(rung, -1), on))
    return found


def answers(files: Sequence[Files], named: Sequence[Column], benchmarks: Sequence[Benchmark]) -> list[dict[str, Any]]:
    """Return every benchmark's questions with the answer of each column; None where an answer is absent."""
    found = []
    for benchmark in benchmarks:
        questions: dict[tuple[str, str], dict[str, Any]] = {}
        for number, column in enumerate(named):
            for row in (
                rows(files[column.side], benchmark.name, column.rung) if benchmark.name in column.benchmarks else ()
            ):
                prompts = [row["prompt"], *row.get("follow_ups", [])]
                question = questions.setdefault(
                    (str(row["key"]), "\n".join(prompts)),
                    {
                        "key": visible(str(row["key"])),
                        "group": visible(str(row.get("group", ""))),
                        "prompt": visible(prompts),
                        "answers": [None] * len(named),
                    },
                )
                question["answers"][number] = answer(row, benchmark)
        if questions:
            about = {name: getattr(benchmark, name) for name in ("name", "better", "share", "check")}
            found.append({**about, "questions": list(questions.values())})
    return found


def rows(files: Files, benchmark: str, rung: str) -> list[Row]:
    """Return the scored rows of a rung on a benchmark or a task of lm-eval, sorted by key; empty if they are absent."""
    lm_eval = f"{LM_EVAL}/{benchmark}/{rung}.jsonl"
    path = lm_eval if files.has(lm_eval) else f"{BENCHMARK}/{benchmark}/{rung}.jsonl"
    found = files.lines(path) or []
    if any(not row.keys() >= NEEDED for row in found):
        files.skip(path)
        return []
    return sorted(found, key=lambda row: (len(str(row["key"])), str(row["key"])))


def answer(row: Row, benchmark: Benchmark) -> dict[str, Any]:
    """Return one answer: score, verdicts, turns of its first sample, tokens, whether it finished, number of samples."""
    tokens, responses = row.get("tokens"), row["responses"]
    verdicts = row.get("verdicts") or list(measures(row, benchmark).items())
    return {
        "score": score(row, benchmark),
        "marks": [[visible(str(name)), visible(value)] for name, value in verdicts],
        "turns": visible(responses[0]),
        "tokens": sum(tokens) if tokens else None,
        "finished": all(row.get("finished", [True])),
        "samples": len(responses),
    }


def measures(row: Row, benchmark: Benchmark) -> dict[str, float]:
    """Return value / weight of each measure of the score that counts for this row."""
    pairs = {name: row["measures"].get(name, [0, 0]) for name in benchmark.measures}
    return {name: value / weight for name, (value, weight) in pairs.items() if weight}


def score(row: Row, benchmark: Benchmark) -> float | None:
    """Return the row's own score, the mean of its measures, as ladder/eval/compare.py counts it; None without one."""
    counted = measures(row, benchmark)
    return sum(counted.values()) / len(counted) if counted else None


def visible(value: Any) -> Any:
    r"""Replace characters that a reader would not see by codes, in a text or a list of texts: `\u202e`."""
    if isinstance(value, list):
        return [visible(one) for one in value]
    if not isinstance(value, str):
        return value
    return INVISIBLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), value)
