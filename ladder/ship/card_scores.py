"""Scores of a model card: the hub's EvalResult, tables with intervals, and how the answers were made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult

from ladder.data.markdown import table
from ladder.data.strict_json import parse_json
from ladder.report.rung_table import SMALLEST_JUDGE
from ladder.ship.lineage import Lock

TABLE = Path("report/table.json")
Results = Mapping[str, Any]
"""Line of a rung in report/table.json; empty if the report has none."""


def results_of(rung: str) -> Results:
    """Return the line of a rung in report/table.json; an empty one if the report does not have it."""
    if not TABLE.is_file():
        return {}
    lines: Any = parse_json(TABLE.read_text(encoding="utf-8"))
    return next((line for line in lines if line["rung"] == rung), {})


def measured(results: Results) -> dict[str, Any]:
    """Return the results by benchmark, without those that a judge graded which is too small to measure anything."""
    found: dict[str, Any] = results.get("benchmarks", {})
    sizes = {name: one["made_by"].get("judge", {}).get("parameters", float("inf")) for name, one in found.items()}
    return {name: one for name, one in found.items() if sizes[name] >= SMALLEST_JUDGE}


def eval_results(results: Results) -> list[EvalResult]:
    """Return the headline of every benchmark in the hub's format; the interval and n are in its name."""
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=name,
            dataset_name=f"{name} ({one['made_by']['rows']} of {one['made_by']['of']} questions)",
            metric_type=one["made_by"]["headline"]["name"],
            metric_value=one["score"],
            metric_name=f"{one['made_by']['headline']['name']} ({_unit(one)}) [95% CI {_interval(one)}]",
        )
        for name, one in measured(results).items()
    ]


def score_table(results: Results) -> str:
    """Return the table of scores, or a sentence if nothing was measured."""
    found = measured(results)
    left_out = sorted(results.get("benchmarks", {}).keys() - found.keys())
    note = (
        f"Left out: {', '.join(left_out)}, graded by a judge that is too small to measure a model." if left_out else ""
    )
    if not found:
        return "\n\n".join(part for part in ("The report of this ladder has no score of this rung.", note) if part)
    rows = [
        [name, one["made_by"]["headline"]["name"], _unit(one), _number(one["score"], one), _interval(one),
         one["made_by"]["rows"], one["made_by"]["of"], _seeds(one)]
        for name, one in found.items()
    ]  # fmt: skip
    head = ["benchmark", "measure", "unit", "score", "95% CI", "n", "questions in all", "seeds"]
    return "\n\n".join(part for part in (table(head, rows), note) if part)


def comparison_table(results: Results) -> str:
    """Return the table of comparisons with the rung's baseline; "" without any."""
    rows = [
        [name, _change(result), _p(one["p_holm"]), one["n"], one["verdict"]]
        for name, result in measured(results).items()
        if (one := result["against_baseline"])
    ]
    if not rows:
        return ""
    said = (
        f"Against its baseline, `{results['baseline']}`, on the same questions; Holm's correction over all comparisons "
        "of the report:"
    )
    return f"{said}\n\n{table(['benchmark', 'change [95% CI]', 'p (Holm)', 'n', 'verdict'], rows)}"


def settings_table(results: Results, lock: Lock) -> str:
    """Return how the answers to each benchmark were generated, as dvc.lock records it; "" without any."""
    recorded = lock.sections(f"data/answer/{results['rung']}") if results else {}
    rows = []
    for name in measured(results):
        settings = recorded.get("answer", {}).get(name) or {}
        chosen = {"temperature": 0.0, **settings}
        rows.append([name, ", ".join(f"{key}: {value}" for key, value in sorted(chosen.items()))])
    return f"Answers to the benchmarks:\n\n{table(['benchmark', 'settings'], rows)}" if rows else ""


def _unit(one: Mapping[str, Any]) -> str:
    return str(one["made_by"]["headline"]["unit"])


def _interval(one: Mapping[str, Any]) -> str:
    low, high = one["interval"]
    return f"{_number(low, one)} to {_number(high, one)}"


def _number(value: float, one: Mapping[str, Any], sign: str = "") -> str:
    """Format a number as the report does: one decimal for a percentage, else two."""
    return f"{value:{sign}.{1 if _unit(one) == '%' else 2}f}"


def _change(result: Mapping[str, Any]) -> str:
    one = result["against_baseline"]
    low, high = (_number(one[end], result) for end in ("low", "high"))
    return f"{_number(one['difference'], result, '+')} [{low}, {high}]"


def _seeds(one: Mapping[str, Any]) -> str:
    values = one.get("by_seed", [])
    return f"{len(values)}: {_number(min(values), one)} to {_number(max(values), one)}" if values else "1"


def _p(value: float) -> str:
    """Format p. The report rounds it to five decimals."""
    return f"{value:.2g}" if value else "below 0.00001"
