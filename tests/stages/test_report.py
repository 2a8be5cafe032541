import json
import math
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy import stats

from ladder.data.jsonl import Row, read_json, write_json, write_rows
from ladder.pipeline.stage import UserError
from stages.report import Params, main

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"' &amp;"
SOLVED = {"name": "solved", "measures": ["solved"], "unit": "%", "better": "higher"}
GRADE = {"name": "grade", "measures": ["grade"], "unit": "of 10", "better": "higher"}


def write_rung(
    folder: Path, rung: str, worth: list[float | None], ledger: Row, response: str = "text", name: str = "ifeval",
    headline: Row = SOLVED, **columns: object,
) -> None:  # fmt: skip
    """Write a rung as stage `benchmark` does: the value of each answer, None where it is unknown."""
    rows = [
        {"key": str(key), "group": "all", "measures": {headline["name"]: [value or 0, value is not None]},
         "prompt": f"prompt {key}", "follow_ups": [], "responses": [[response]], "tokens": [1234],
         "finished": [bool(value)], **columns}
        for key, value in enumerate(worth)
    ]  # fmt: skip
    write_rows(folder / "scored" / name / f"{rung}.jsonl", rows)
    known = [value for value in worth if value is not None]
    score = round((100 if headline is SOLVED else 1) * sum(known) / len(known), 2)
    interval = {f"{headline['name']}_low": score - 5, f"{headline['name']}_high": score + 5}
    made_by = {"rows": len(worth), "of": 541, "headline": headline}
    write_json(folder / "provenance" / f"{rung}.json", ledger)
    write_json(
        folder / "scored" / name / f"{rung}.json", {headline["name"]: score, "interval": interval, "made_by": made_by}
    )


TRAINED = {"parameters": 100_000_000, "trainable_parameters": 2_500_000, "seconds": 61.5, "memory_gb": 3.25}
NONE, SOME = [0.0] * 40, [1.0] * 12 + [0.0] * 28


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    write_rung(tmp_path, "base", NONE, {"method": "base", "parent": "", "parameters": 1_000_000})
    write_rung(tmp_path, "sft/chat", SOME, {"method": "sft", "parent": "base", **TRAINED}, HOSTILE)
    write_rung(tmp_path, "merge/soup", SOME, {"method": "merge", "parent": "sft/chat + base", "parameters": 1_000_000})
    write_rung(tmp_path, "alone", SOME, {"method": "sft", "parent": "elsewhere", **TRAINED})
    return tmp_path


def report(
    folder: Path, *rungs: str, benchmarks: tuple[str, ...] = ("ifeval",), tasks: tuple[str, ...] = (),
    measured: list[str] | None = None, **params: object,
) -> Path:  # fmt: skip
    names = ("scored", "lm_eval", "provenance", "report", "metrics")
    fields = {"benchmarks": list(benchmarks), "rungs": list(rungs), **params}
    main(
        Params.model_validate(fields),
        *(folder / name for name in names),
        tasks=list(tasks),
        measured=measured or list(rungs),
    )
    return folder / "report"


def test_the_table(ladder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = report(ladder, "base", "sft/chat", "merge/soup", "alone")
    table = (output / "table.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "# The ladder on ifeval"
    assert table[2] == "| rung | method | parent | trainable | ifeval |"
    assert table[4] == "| base | base |  |  | 0.0 [-5.0, 5.0] |"
    assert table[5] == "| sft/chat | sft | base | 2.5 M (2.5%) | 30.0 [25.0, 35.0] |"
    assert table[9] == "ifeval: 40 of 541 questions, solved."
    # McNemar's exact p of 12 gains and no loss is 2 / 2^12; with two comparisons Holm doubles the smaller one.
    p = 2 / 2**12
    shown = f"| sft/chat | base | ifeval | +30.0 [17.5, 45.0] | {p:.2g} | {2 * p:.2g} | 12 | 0 | 40 | improved |"
    assert table[13] == shown
    # Against the first of two parents; the rung whose parent is not in the table is compared with nothing.
    unchanged = "no significant difference"
    assert table[14] == f"| merge/soup | sft/chat | ifeval | +0.0 [0.0, 0.0] | 1 | 1 | 0 | 0 | 40 | {unchanged} |"
    assert table[15] == ""
    numbers = json.loads((output / "table.json").read_text())[1]["benchmarks"]["ifeval"]
    assert (numbers["score"], numbers["interval"], numbers["made_by"]["of"]) == (30.0, [25.0, 35.0], 541)
    against = numbers["against_baseline"]
    assert (against["n"], against["verdict"], against["p_holm"]) == (40, "improved", round(2 * p, 5))
    assert (against["difference"], against["gained"], against["lost"]) == (30.0, 12, 0)
    # In resamples, the number of gains is binomial(40, 0.3): its quantiles are 7 and 18 of 40.
    assert [stats.binom.ppf(tail, 40, 0.3) / 40 for tail in (0.025, 0.975)] == [0.175, 0.45]
    assert (against["low"], against["high"]) == (17.5, 45.0)
    assert (output / "rungs.tsv").read_text().splitlines()[:3] == [
        "cell\tbenchmark\trung\tscore\tlow\thigh",
        "ifeval-base\tifeval\tbase\t0.00\t-5.00\t5.00",
        "ifeval-sft/chat\tifeval\tsft/chat\t30.00\t25.00\t35.00",
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].index("ifeval") == printed[3].index("0.0 [") == printed[4].index("30.0 [")


def test_benchmarks_stand_side_by_side_and_are_corrected_together(ladder: Path) -> None:
    base, sft = {"method": "base", "parent": "", "parameters": 1}, {"method": "sft", "parent": "base", **TRAINED}
    write_rung(ladder, "base", [4.0] * 30 + [None], base, name="mtbench", headline=GRADE)
    # Answer 0 has no grade here, answer 30 none there: 29 are compared, each with a grade lower by 2.
    write_rung(ladder, "sft/chat", [None] + [2.0] * 30, sft, name="mtbench", headline=GRADE)
    output = report(ladder, "base", "sft/chat", benchmarks=("ifeval", "mtbench"))
    table = (output / "table.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "# The ladder on ifeval, mtbench"
    assert table[2] == "| rung | method | parent | trainable | ifeval | mtbench (of 10) |"
    assert table[5].endswith("| 30.0 [25.0, 35.0] | 2.00 [-3.00, 7.00] |")
    assert table[7] == "ifeval: 40 of 541 questions, solved. mtbench: 31 of 541 questions, grade."
    # A permutation test of 10,000 draws can say no less than 1 / 10,001.
    assert (
        table[12] == "| sft/chat | base | mtbench | -2.00 [-2.00, -2.00] | 0.0001 | 0.0002 | 0 | 29 | 29 | regressed |"
    )
    lines = json.loads((output / "table.json").read_text())
    assert list(lines[1]["benchmarks"]) == ["ifeval", "mtbench"]


def test_a_judge_too_small_to_measure_is_a_pipeline_check(ladder):
    for rung, grades in {"base": [4.0] * 40, "sft/chat": [2.0] * 40}.items():
        origin = {"method": "sft", "parent": "base", **TRAINED}
        write_rung(ladder, rung, grades, origin, name="mtbench", headline=GRADE)
        path = ladder / f"scored/mtbench/{rung}.json"
        summary = read_json(path)
        summary["made_by"]["judge"] = {"judge": "base", "parameters": 134_515_008, "caveat": "a local judge"}
        write_json(path, summary)
    output = report(ladder, "base", "sft/chat", benchmarks=("ifeval", "mtbench"))
    page = (output / "table.md").read_text()
    above, said = page.split("**Pipeline check, not a measurement.** ")
    assert "mtbench" not in above.split("\n", 1)[1]
    assert said.startswith("40 of 541 questions of mtbench, judged by a model of 135M parameters. Its grades show")
    assert said.endswith("| base | 4.00 [-1.00, 9.00] |\n| sft/chat | 2.00 [-3.00, 7.00] |\n")
    entries = [line["benchmarks"]["mtbench"] for line in json.loads((output / "table.json").read_text())]
    assert [(entry["score"], entry["against_baseline"]) for entry in entries] == [(4.0, None), (2.0, None)]


def test_a_difference_that_many_comparisons_may_bring_is_not_significant(ladder: Path) -> None:
    # 7 gains and 0 losses: p = 2 / 2^7 = 0.0156; of four comparisons Holm makes it 0.0625.
    base = {"method": "base", "parent": "", "parameters": 1}
    for number in range(4):
        gains = [1.0] * (7 if number == 0 else 0) + [0.0] * (33 if number == 0 else 40)
        write_rung(ladder, "base", NONE, base, name=f"b{number}")
        write_rung(ladder, "sft/chat", gains, {"method": "sft", "parent": "base", **TRAINED}, name=f"b{number}")
    for names, verdict in ((("b0",), "improved"), (("b0", "b1", "b2", "b3"), "no significant difference")):
        output = report(ladder, "base", "sft/chat", benchmarks=names)
        against = json.loads((output / "table.json").read_text())[1]["benchmarks"]["b0"]["against_baseline"]
        assert (against["p"], against["verdict"]) == (round(2 / 2**7, 5), verdict)
        assert against["p_holm"] == round(len(names) * 2 / 2**7, 5)


class Page(HTMLParser):
    """Parse the page as a browser would: elements with their attributes, and the text of each <pre> and <li>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {"pre": [], "li": []}
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.texts:
            self.inside = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == self.inside:
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def page(output: Path) -> Page:
    return Page((output / "answers.html").read_text(encoding="utf-8"))


def test_a_hostile_answer_stays_text(ladder: Path) -> None:
    shown = page(report(ladder, "base", "sft/chat"))
    assert len(shown.named("script")) == 1
    assert shown.named("img") == []
    assert shown.texts["pre"].count("\n" + HOSTILE) == 40  # the parser of <pre> drops the first newline
    assert not any(name.startswith("on") for _, attributes in shown.elements for name in attributes)
    policy = shown.named("meta")[1]["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not any("src" in attributes or "href" in attributes for _, attributes in shown.elements)


def test_answers_are_marked_against_the_parent(ladder: Path) -> None:
    articles = page(report(ladder, "base", "sft/chat", "merge/soup")).named("article")
    assert [article["data-gained"] for article in articles] == ["1"] * 12 + [""] * 28
    assert [article["data-changed"] for article in articles] == ["1"] * 12 + [""] * 28
    assert [article["data-solved"] for article in articles] == ["2"] * 12 + ["0"] * 28


def test_a_rung_that_got_worse_is_marked_lost(ladder: Path) -> None:
    write_rung(ladder, "down", NONE, {"method": "dpo", "parent": "sft/chat", "parameters": 1})
    output = report(ladder, "sft/chat", "down")
    against = json.loads((output / "table.json").read_text())[1]["benchmarks"]["ifeval"]["against_baseline"]
    assert against["verdict"] == "regressed"
    assert [article["data-lost"] for article in page(output).named("article")] == ["1"] * 12 + [""] * 28


def test_every_benchmark_has_its_part_of_the_page(ladder: Path) -> None:
    base = {"method": "base", "parent": "", "parameters": 1}
    turns = {"follow_ups": ["And then?"], "responses": [["first", "second"], ["other", "sample"]]}
    write_rung(ladder, "base", [4.0, None], base, name="mtbench", headline=GRADE, **turns)
    write_rung(ladder, "sft/chat", [7.0, 2.0], {"method": "sft", "parent": "base", **TRAINED}, name="mtbench",
               headline=GRADE, verdicts=[["safe", True], ["json", "loosely"], ["says", "7 <b>"]])  # fmt: skip
    shown = page(report(ladder, "base", "sft/chat", benchmarks=("mtbench", "ifeval")))
    assert [row["data-benchmark"] for row in shown.named("tr")[1:]] == ["mtbench"] * 2 + ["ifeval"] * 2
    assert [one["data-benchmark"] for one in shown.named("article")] == ["mtbench"] * 2 + ["ifeval"] * 40
    assert shown.texts["pre"][:4] == ["\nprompt 0", "\nAnd then?", "\nfirst", "\nsecond"]
    assert shown.texts["li"][:5] == [
        "grade: 4",
        "passed safe",
        "loosely passed json",
        "says: 7 <b>",
        "grade: not counted",
    ]
    assert [one["data-gained"] for one in shown.named("article")[:2]] == ["1", ""]  # a higher grade; an unknown one
    assert "first of 2 samples" in (ladder / "report/answers.html").read_text()


def test_what_got_through_is_a_page_of_its_own(ladder: Path) -> None:
    output = report(ladder, "base", "sft/chat")
    assert (output / "redteam.md").read_text().splitlines()[2:] == [
        "No benchmark of the table has prompts that should be refused (ifeval)."
    ]
    reported: Row = {"attack": None, "wanted": "refusal", "judge": [None], "judged": 0, "unparseable": 0}
    for rung, verdict in (("base", "full_refusal"), ("sft/chat", "full_compliance")):
        ledger = {"method": "sft", "parent": "", **TRAINED}
        write_rung(ladder, rung, [0.0] * 7, ledger, HOSTILE, name="harmbench", rule=[verdict], **reported)
    output = report(ladder, "base", "sft/chat", benchmarks=("ifeval", "harmbench"))
    text = (output / "redteam.md").read_text(encoding="utf-8")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Successful attacks", "## harmbench", "### base: 0 of 7 harmful successful",
        "### sft/chat: 7 of 7 harmful successful, 5 shown",
    ]  # fmt: skip
    assert "| sft/chat | harmful | rule | 7 | 0 | 0 | 7 | 0 |\n" in text
    assert text.count(f"```text\n{HOSTILE}\n```\n") == 5


def test_refuses_a_rung_without_its_files(ladder: Path) -> None:
    with pytest.raises(UserError, match="scored/ifeval/dpo/chat.json: no such file"):
        report(ladder, "base", "dpo/chat")
    (ladder / "scored" / "ifeval" / "sft" / "chat.json").write_text("{")
    with pytest.raises(UserError, match="scored/ifeval/sft/chat.json: not JSON"):
        report(ladder, "sft/chat")


def test_refuses_rungs_that_answered_different_prompts(ladder: Path) -> None:
    write_rung(ladder, "short", [1.0] * 39, {"method": "sft", "parent": "base", "parameters": 1})
    with pytest.raises(UserError, match="short.jsonl: its prompts differ from those of base"):
        report(ladder, "base", "short")


def test_refuses_a_comparison_of_nothing(ladder: Path) -> None:
    base = {"method": "base", "parent": "", "parameters": 1}
    write_rung(ladder, "base", [4.0, None], base, name="mtbench", headline=GRADE)
    write_rung(ladder, "sft/chat", [None, 2.0], {"method": "sft", "parent": "base", **TRAINED}, name="mtbench",
               headline=GRADE)  # fmt: skip
    with pytest.raises(UserError, match="mtbench sft/chat: grade: no common prompt of 2 has it in both"):
        report(ladder, "base", "sft/chat", benchmarks=("mtbench",))


def test_a_benchmark_that_could_not_be_scored_here_is_named_and_not_zero(ladder: Path) -> None:
    for rung in ("base", "sft/chat"):
        write_rung(ladder, rung, NONE, {"method": "base", "parent": "", "parameters": 1}, name="humaneval")
    write_rows(ladder / "scored/humaneval/base.jsonl", [])
    write_json(ladder / "scored/humaneval/base.json", {"absent": "no sandbox"})
    output = report(ladder, "base", "sft/chat", benchmarks=("ifeval", "humaneval"))
    text = (output / "table.md").read_text()
    assert "| rung | method | parent | trainable | ifeval |" in text
    assert "ifeval: 40 of 541 questions, solved. humaneval: not scored: no sandbox.\n" in text
    assert "humaneval: not scored: no sandbox." in (output / "answers.html").read_text()
    with pytest.raises(UserError, match="nothing to show: humaneval: not scored: no sandbox"):
        report(ladder, "base", benchmarks=("humaneval",))


def test_the_headlines_are_metrics_by_rung(ladder: Path) -> None:
    def metrics() -> dict[str, Row]:
        return {
            str(path.relative_to(ladder / "metrics")): json.loads(path.read_text())
            for path in sorted((ladder / "metrics").rglob("*.json"))
        }

    base, sft = {"method": "base", "parent": "", "parameters": 1}, {"method": "sft", "parent": "base", **TRAINED}
    names = [f"b{number}" for number in range(6)]
    for name in names:
        write_rung(ladder, "base", [1.0, 0.0], base, name=name)
        write_rung(ladder, "sft/chat", [1.0, 1.0], sft, name=name)
    report(ladder, "base", "sft/chat", benchmarks=tuple(names))
    first = names[:5]
    assert metrics() == {"base.json": dict.fromkeys(first, 50.0), "sft/chat.json": dict.fromkeys(first, 100.0)}
    report(ladder, "base", benchmarks=tuple(names), headlines=["b5"])
    assert metrics() == {"base.json": {"b5": 50.0}}
    with pytest.raises(UserError, match="report.headlines: expected benchmarks of the table .*, got 'b7'"):
        report(ladder, "base", benchmarks=tuple(names), headlines=["b7"])


def test_tasks_of_lm_eval_follow_the_benchmarks(ladder: Path) -> None:
    for rung, worth in (("base", NONE), ("sft/chat", SOME)):
        parent = {"method": "sft", "parent": "base" if rung != "base" else "", **TRAINED}
        write_rung(ladder, rung, worth, parent, name="arc")
        for end in ("json", "jsonl"):
            (ladder / f"lm_eval/arc/{rung}.{end}").parent.mkdir(parents=True, exist_ok=True)
            (ladder / f"scored/arc/{rung}.{end}").rename(ladder / f"lm_eval/arc/{rung}.{end}")
    table = (report(ladder, "base", "sft/chat", tasks=("arc",)) / "table.md").read_text().splitlines()
    assert table[2] == "| rung | method | parent | trainable | ifeval | arc |"
    assert [line.split(" | ")[2] for line in table[11:13]] == ["ifeval", "arc"]


def test_asked_pairs_are_compared_and_corrected_with_the_others(ladder: Path) -> None:
    output = report(
        ladder, "base", "sft/chat", "merge/soup", "alone", compare=[["alone", "base"], ["sft/chat", "alone"]]
    )
    table = (output / "table.md").read_text(encoding="utf-8").splitlines()
    p = 2 / 2**12  # McNemar's exact p of 12 gains and no loss; the two smallest of four are multiplied by 4 (Holm 1979)
    tests = f"{p:.2g} | {4 * p:.2g} | 12 | 0 | 40 | improved |"
    assert table[13] == f"| sft/chat | base | ifeval | +30.0 [17.5, 45.0] | {tests}"
    assert table[15] == f"| alone | base | ifeval | +30.0 [17.5, 45.0] | {tests}"
    unchanged = "no significant difference"
    assert table[16] == f"| sft/chat | alone | ifeval | +0.0 [0.0, 0.0] | 1 | 1 | 0 | 0 | 40 | {unchanged} |"
    lines = {line["rung"]: line["benchmarks"]["ifeval"] for line in json.loads((output / "table.json").read_text())}
    assert lines["alone"]["against"]["base"]["gained"] == 12 and lines["alone"]["against_baseline"] is None
    assert "against" not in lines["base"]


def test_a_rung_without_a_seed_is_compared_with_every_seed_of_the_other(tmp_path: Path) -> None:
    write_rung(tmp_path, "endpoint/gpt", SOME, {"method": "endpoint", "parent": "", "parameters": 1})
    for rung, count in (("sft/chat", 20), ("sft/chat+1", 28)):
        write_rung(tmp_path, rung, [1.0] * count + [0.0] * (40 - count), {"method": "sft", "parent": "base", **TRAINED})
    rungs, measured = ("endpoint/gpt", "sft/chat"), ["endpoint/gpt", "sft/chat", "sft/chat+1"]
    report(tmp_path, *rungs, measured=measured, seeds=2, compare=[["sft/chat", "endpoint/gpt"]])
    line = json.loads((tmp_path / "report/table.json").read_text())[1]["benchmarks"]["ifeval"]
    assert line["against"]["endpoint/gpt"]["by_seed"] == [20.0, 40.0]  # 8 and 16 of 40


@pytest.mark.parametrize(
    ("pair", "said"), [(["base", "sft/cat"], "got 'sft/cat'"), (["base", "base"], "got 'base' twice")]
)
def test_pairs_of_rungs_outside_the_table_are_refused(pair: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"compare\[0\]: .*" + said):
        Params.model_validate({"benchmarks": ["ifeval"], "rungs": ["base", "sft/chat"], "compare": [pair]})


def test_several_seeds_are_their_mean_and_range_and_both_kinds_of_variance(tmp_path: Path) -> None:
    base = {"method": "base", "parent": "", "parameters": 1_000_000}
    solved = {"sft/chat": 12, "sft/chat+1": 20, "sft/chat+2": 16}
    write_rung(tmp_path, "base", NONE, base)
    for rung, count in solved.items():
        write_rung(tmp_path, rung, [1.0] * count + [0.0] * (40 - count), {"method": "sft", "parent": "base", **TRAINED})
        above = {"method": "dpo", "parent": rung, **TRAINED}
        write_rung(tmp_path, rung.replace("sft", "dpo"), [1.0] * (count - 4) + [0.0] * (44 - count), above)
    rungs = ("base", "sft/chat", "dpo/chat")
    measured = ["base", *solved, *(rung.replace("sft", "dpo") for rung in solved)]
    table = (report(tmp_path, *rungs, measured=measured, seeds=3) / "table.md").read_text().splitlines()
    # Sums of squares about the mean 48/120: seeds 40 (.1^2 + .1^2) = 0.8 with 2 degrees; prompts 12 (.6^2) + 4 (2/3 -
    # .4)^2 3 + 4 (1/3 - .4)^2 3 + 20 (.4^2) 3 with 39; the whole is 48 - 120 (.4^2) = 28.8, the rest has 78.
    prompts = 3 * (12 * 0.6**2 + 4 * (2 / 3 - 0.4) ** 2 + 4 * (1 / 3 - 0.4) ** 2 + 20 * 0.4**2)
    seeds, rest = 0.8 / 2, (28.8 - 0.8 - prompts) / 78
    total = seeds + prompts / 39 - rest
    degrees = total**2 / (seeds**2 / 2 + (prompts / 39) ** 2 / 39 + rest**2 / 78)
    half = 100 * math.sqrt(total / 120) * stats.t.ppf(0.975, degrees)
    low, high = (f"{40 + sign * half:.1f}" for sign in (-1, 1))
    assert table[5] == f"| sft/chat | sft | base | 2.5 M (2.5%) | 40.0 [{low}, {high}] (30.0 to 50.0) |"
    assert table[4] == "| base | base |  |  | 0.0 [-5.0, 5.0] |"
    assert table[10].split(" | ")[-4:-1] == ["n", "lowest to highest seed", "seeds improved"]
    # DPO loses four questions on each seed, never the same: the seeds and questions differ by less than the rest,
    # which is 12 - 120 (.1^2) - 3 (12 (1/3 - .1)^2 + 28 (.1^2)) = 8 with 78 degrees.
    below = 2 * stats.t.sf(0.1 / math.sqrt(8 / 78 / 120), 78)
    p = 2 * stats.t.sf(40 / half * stats.t.ppf(0.975, degrees), degrees)
    assert below < p < 2 * below  # so Holm's p of both is twice the smaller one
    shown = [f"+40.0 [{low}, {high}]", f"{p:.2g}", f"{2 * below:.2g}", "48", "0", "40", "+30.0 to +50.0", "3 of 3"]
    assert table[12].split(" | ") == ["| sft/chat", "base", "ifeval", *shown, "improved |"]
    half = 10 * stats.t.ppf(0.975, 78) * math.sqrt(8 / 78 / 120) / 0.1
    shown = [f"-10.0 [{-10 - half:.1f}, {half - 10:.1f}]", f"{below:.2g}", f"{2 * below:.2g}"]
    shown += ["0", "12", "40", "-10.0 to -10.0", "0 of 3"]
    assert table[13].split(" | ") == ["| dpo/chat", "sft/chat", "ifeval", *shown, "regressed |"]
    assert "two-way random-effects model" in table[-1] and "do not cover the variance of training" not in table[-1]
    lines = json.loads((tmp_path / "report/table.json").read_text())
    assert [line["rung"] for line in lines] == list(rungs)
    assert lines[1]["benchmarks"]["ifeval"]["by_seed"] == [30.0, 50.0, 40.0]
    assert lines[2]["benchmarks"]["ifeval"]["against_baseline"]["by_seed"] == [-10.0, -10.0, -10.0]
    assert json.loads((tmp_path / "metrics/sft/chat.json").read_text()) == {"ifeval": 40.0}


def test_a_seed_with_the_opposite_sign_prevents_a_verdict(tmp_path: Path) -> None:
    write_rung(tmp_path, "base", SOME, {"method": "base", "parent": "", "parameters": 1})
    for rung, count in (("sft/chat", 40), ("sft/chat+1", 40), ("sft/chat+2", 11)):
        write_rung(tmp_path, rung, [1.0] * count + [0.0] * (40 - count), {"method": "sft", "parent": "base", **TRAINED})
    measured = ["base", "sft/chat", "sft/chat+1", "sft/chat+2"]
    table = (report(tmp_path, "base", "sft/chat", measured=measured, seeds=3) / "table.md").read_text().splitlines()
    assert table[11].split(" | ")[-3:] == ["-2.5 to +70.0", "2 of 3", "no significant difference |"]


def test_a_replica_whose_parent_was_not_measured_is_refused(tmp_path: Path) -> None:
    write_rung(tmp_path, "base", SOME, {"method": "base", "parent": "", "parameters": 1})
    write_rung(tmp_path, "sft/chat", SOME, {"method": "sft", "parent": "base", **TRAINED})
    write_rung(tmp_path, "sft/chat+1", SOME, {"method": "sft", "parent": "sft/other", **TRAINED})
    with pytest.raises(UserError, match=r"provenance/sft/chat\+1.json: its parent sft/other was not measured"):
        report(tmp_path, "base", "sft/chat", measured=["base", "sft/chat", "sft/chat+1"], seeds=2)
