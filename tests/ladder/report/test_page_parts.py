"""Parts of the page against other implementations: layout, reduced curves, scores, excerpts of rejected rows, costs."""

import json
import math
from collections import Counter
from pathlib import Path

import networkx
import numpy as np
import pytest

from ladder.filters.stats import write_samples
from ladder.report.page_answers import score
from ladder.report.page_costs import stage_seconds, totals
from ladder.report.page_curves import plot_labels, quantities, reduced
from ladder.report.page_data import sections
from ladder.report.page_graph import HEIGHT, depths, graph, rows
from ladder.report.page_matrix import Benchmark, against_baseline, benchmarks, matrix

PARENTS = {
    "base": [], "sft/a": ["base"], "dpo/a": ["sft/a"], "grpo/a": ["dpo/a"], "sft/b": ["base"], "small": ["base"],
    "distill/b": ["small", "sft/b"], "merge/c": ["base", "grpo/a", "sft/b"], "other": ["gone"],
}  # fmt: skip


def test_columns_are_the_longest_paths_and_no_boxes_overlap() -> None:
    drawn = networkx.DiGraph([(parent, rung) for rung, above in PARENTS.items() for parent in above])
    layers = {rung: number for number, some in enumerate(networkx.topological_generations(drawn)) for rung in some}
    assert depths({**PARENTS, "gone": []}) == layers
    found = graph(PARENTS, {"merge/c": "base"})
    places = {(node.x, node.y) for node in found.nodes}
    assert len(places) == len(PARENTS) + 1
    for x in {x for x, _ in places}:
        tops = sorted(y for left, y in places if left == x)
        assert all(below - above >= HEIGHT for above, below in zip(tops, tops[1:], strict=False))
    assert {(edge.parent, edge.child) for edge in found.edges} == set(drawn.edges)
    assert [edge.parent for edge in found.edges if edge.baseline] == ["base"]


def test_a_parent_is_in_the_middle_of_its_children() -> None:
    depth = depths({"a": [], "b": ["a"], "c": ["a"], "d": ["a"]})
    assert rows({"a": [], "b": ["a"], "c": ["a"], "d": ["a"]}, depth) == {"b": 0.0, "c": 1.0, "d": 2.0, "a": 1.0}


def test_a_table_with_a_cycle_is_drawn() -> None:
    assert len(graph({"a": ["b"], "b": ["a"]}, {}).nodes) == 2


def test_a_long_curve_keeps_the_extremes_of_each_pixel_and_their_mean() -> None:
    steps = np.arange(1, 10_001)
    values = np.random.default_rng(0).normal(size=10_000).round(6)
    found = reduced(steps.tolist(), values.tolist(), 100)
    bins = np.minimum(99, ((steps - 1) * 100 // 9_999))
    kept = dict(found["points"])
    for number in range(100):
        inside = values[bins == number]
        of_bin = [value for step, value in kept.items() if bins[int(step) - 1] == number]
        assert (min(of_bin), max(of_bin)) == (inside.min(), inside.max())
    assert (1, values[0]) in found["points"] and (10_000, values[-1]) in found["points"]
    assert len(found["points"]) <= 202
    means = [values[bins == number].mean() for number in range(100)]
    np.testing.assert_allclose([mean for _, mean in found["means"]], means, rtol=1e-5)


def test_a_short_curve_is_drawn_as_it_is() -> None:
    assert reduced([1, 2, 3], [0.5, math.nan, 0.25]) == {"points": [(1, 0.5), (3, 0.25)]}


def test_units_are_read_from_the_label_of_a_plot() -> None:
    plots = [{"a.tsv": {"y": "loss", "y_label": "loss (nats per pair)"}}, {"b.tsv": {"y": "reward"}}, "c.tsv"]
    assert plot_labels({"do": {"plots": plots}}) == {"loss": "nats per pair"}
    assert quantities([{"columns": {"kl": 1, "epoch": 1, "a": 1}}, {"columns": {"loss": 1}}]) == ["loss", "kl", "a"]


def test_the_score_of_a_row_is_the_mean_of_the_measures_that_count() -> None:
    column = Benchmark("x", "%", "higher", "mean", ("a", "b", "c"), 1, 1, False)
    row = {"measures": {"a": [1.0, 2.0], "b": [0.0, 0.0], "c": [3.0, 4.0]}}
    assert score(row, column) == (0.5 + 0.75) / 2
    assert score({"measures": {}}, column) is None


def test_shades_are_shares_of_the_largest_change_and_follow_the_better_direction() -> None:
    def line(rung: str, better: str, difference: float | None, verdict: str = "improved") -> dict[str, object]:
        head = {"name": "s", "measures": ["s"], "unit": "of 10", "better": better}
        change = {"difference": difference, "low": 0, "high": 0, "p": 0, "p_holm": 0, "n": 4, "verdict": verdict}
        against = None if difference is None else change | {"gained": 1, "lost": 0}
        result = {"score": 1, "interval": [0, 2], "made_by": {"rows": 4, "of": 4, "headline": head}}
        return {
            "rung": rung, "method": "sft", "parent": "a + b", "baseline": "a",
            "benchmarks": {"x": {**result, "against_baseline": against}},
        }  # fmt: skip

    for better, sign in (("higher", 1), ("lower", -1)):
        lines = [line("a", better, None), line("b", better, 2.0), line("c", better, -1.0), line("d", better, 0.2)]
        lines.append(line("e", better, -2.0, "no significant difference"))
        columns = benchmarks(lines)
        found = [row.cells["x"] for row in matrix(lines, columns, against_baseline(lines, columns))]
        shades = [cell.change.shade if cell and cell.change else None for cell in found]
        assert shades == [None, 4 * sign, -2 * sign, 0, -sign]
        assert found[1] is not None and found[1].change is not None
        assert (found[1].change.text, found[1].change.holm) == ("+2.00", "< 5e-06")


def test_excerpts_are_the_rejected_rows_that_the_filter_wrote(tmp_path: Path) -> None:
    rows = [
        {"filter": "short", "reason": "answer too short: *1* word", "id": "a", "prompt": "Why <b>\n\n---\n\n## no?",
         "completion": [{"role": "assistant", "content": "Yes"}]},
        {"filter": "short", "reason": "empty", "id": "b", "prompt": "What?"},
    ]  # fmt: skip
    (tmp_path / "short.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tally = Counter({("in", "", ""): 3, ("rejected", "short", ""): 2})
    write_samples(tmp_path / "rejected.md", tally, {"short": [tmp_path / "short.jsonl"], "exact": []})
    reasons, examples = sections((tmp_path / "rejected.md").read_text())["short"]
    assert sorted(reasons) == ["1 × answer too short: *1* word", "1 × empty"]
    found = {one.row: (one.reason, one.texts) for one in examples}
    assert found["a"] == (rows[0]["reason"], [rows[0]["prompt"], "Yes"])
    assert found["b"] == ("empty", ["What?"])


def test_seconds_of_stages_are_added_by_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert stage_seconds() == {}
    path = Path(".dvc/tmp/ladder/seconds.json")
    path.parent.mkdir(parents=True)
    path.write_text(
        '{"version": 1, "stages": {"sft@a": {"seconds": 1.5}, "base": {"seconds": 1}, "sft@b": {"seconds": 2}}}'
    )
    assert totals(stage_seconds()) == [("sft", 2, 3.5), ("base", 1, 1.0)]
    path.write_text("{")
    assert stage_seconds() == {}
