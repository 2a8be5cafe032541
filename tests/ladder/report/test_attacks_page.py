from collections.abc import Iterable

from markdown_it import MarkdownIt

from ladder.data.jsonl import Row
from ladder.eval.compare import Headline
from ladder.eval.results import Entry
from ladder.report.attacks_page import NOTE, redteam_page, through

HOSTILE = "```\n\n# Out\n\n</pre><script>alert(1)</script> ~~~~ ``````` \r````\u202e\x1b[2J <!-- | [a](b)"


def row(key: str, *rule: str, wanted: str = "refusal", judge: tuple[str | None, ...] = (), **columns: object) -> Row:
    """A row of scores; the text of each sample's answer is its position."""
    judge = judge or (None,) * len(rule)
    return {
        "key": key, "group": "Violence", "attack": None, "wanted": wanted, "rule": list(rule), "judge": list(judge),
        "judged": sum(verdict is not None for verdict in judge), "unparseable": 0, "prompt": f"How, {key}?",
        "follow_ups": [], "responses": [[f"Answer {key}.{sample}"] for sample in range(len(rule))],
        "finished": [True] * len(rule), **columns,
    }  # fmt: skip


def page(*benchmarks: tuple[str, dict[str, list[Row]]], examples: int = 2, **made_by: object) -> str:
    headline = Headline(("refused",), "%", "higher")
    found = {
        name: {rung: Entry(name, rung, {"made_by": made_by}, rows, headline) for rung, rows in rungs.items()}
        for name, rungs in benchmarks
    }
    return redteam_page(found, examples)


def keys(rows: Iterable[Row]) -> list[tuple[str, int, tuple[str, ...]]]:
    return [(one.row["key"], one.sample, one.by) for one in through(list(rows))]


def test_the_page() -> None:
    base = [
        row("1", "full_compliance", prompt="How?\nLike that?", responses=[["Sure.\n\n```sh\nrm\n```"]]),
        row("2", "full_refusal", group="Fraud + illegal"),
        row("3", "partial_refusal", group="Fraud", finished=[False], responses=[["No. But " + "x y " * 80]]),
        row("4", "no_answer"),
        row("5", "full_compliance"),
    ]
    safe = [row("1", "full_compliance", wanted="compliance"), row("2", "full_refusal", wanted="compliance")]
    assert page(
        ("ifeval", {"base": [{"key": "1"}], "sft": [{"key": "1"}]}),
        ("harm", {"base": base, "sft": [row(one["key"], "full_refusal", group=one["group"]) for one in base]}),
        ("xstest", {"base": safe, "sft": safe[:1]}),
    ) == (
        f"# Successful attacks\n\n{NOTE}\n\n"
        "## harm\n\n"
        "| rung | prompts | by | answers | refused | in part | answered | no class |\n"
        "| --- | --- | --- | --: | --: | --: | --: | --: |\n"
        "| base | harmful | rule | 5 | 1 | 1 | 2 | 1 |\n"
        "| sft | harmful | rule | 5 | 5 | 0 | 0 | 0 |\n\n"
        "By rule only, without a judge.\n\n"
        "| successful | base | sft |\n"
        "| --- | --- | --- |\n"
        "| Fraud | 1 of 2 | 0 of 2 |\n"
        "| Violence | 2 of 3 | 0 of 3 |\n"
        "| illegal | 0 of 1 | 0 of 1 |\n\n"
        "### base: 3 of 5 harmful successful, 2 shown\n\n"
        "**1** · Violence · harmful prompt · rule: full compliance\n\n"
        "```text\nHow? Like that?\n```\n\n"
        "````text\nSure. ```sh rm ```\n````\n\n"
        "**3** · Fraud · harmful prompt · rule: partial refusal · answer not finished\n\n"
        "```text\nHow, 3?\n```\n\n"
        f"```text\nNo. But {'x y ' * 25}x\n{'y x ' * 27}y\n{'x y ' * 20}[…]\n```\n\n"
        "### sft: 0 of 5 harmful successful\n\n"
        "## xstest\n\n"
        "| rung | prompts | by | answers | refused | in part | answered | no class |\n"
        "| --- | --- | --- | --: | --: | --: | --: | --: |\n"
        "| base | safe | rule | 2 | 1 | 0 | 1 | 0 |\n"
        "| sft | safe | rule | 1 | 0 | 0 | 1 | 0 |\n\n"
        "By rule only, without a judge.\n\n"
        "| successful | base | sft |\n"
        "| --- | --- | --- |\n"
        "| Violence | 1 of 2 | 0 of 1 |\n\n"
        "### base: 1 of 2 safe refused\n\n"
        "**2** · Violence · safe prompt · rule: full refusal\n\n"
        "```text\nHow, 2?\n```\n\n"
        "```text\nAnswer 2.0\n```\n\n"
        "### sft: 0 of 1 safe refused\n"
    )


def test_without_red_team_benchmarks_one_line_says_so() -> None:
    rows = [{"key": "1"}]
    assert page(("ifeval", {"base": rows}), ("gsm8k", {"base": rows})) == (
        "# Successful attacks\n\nNo benchmark of the table has prompts that should be refused (ifeval, gsm8k).\n"
    )


def test_without_examples_the_counts_stand_alone() -> None:
    shown = page(("harm", {"base": [row("1", "full_compliance")]}), examples=0)
    assert "| Violence | 1 of 1 |" in shown and "###" not in shown and "Answer" not in shown


def test_a_judges_line_counts_what_it_was_asked() -> None:
    rows = [
        row("1", "full_compliance", judge=("full_refusal",), grades=[[1, 4, 4]]),
        row("2", "full_refusal", judge=("full_compliance",), grades=[[0, 2, 3]]),
        row("3", "full_compliance", judge=(None,), judged=1, unparseable=1, grades=[None]),
        row("4", "no_answer", grades=[None]),
    ]
    judge = {"judge": "some_org/*model*", "caveat": "judged by a model of 135M"}
    lines = page(("harm", {"base": rows}), examples=3, judge=judge).splitlines()
    assert r"The judge is some_org/\*model\* (judged by a model of 135M)." in lines
    assert "| base | harmful | rule | 4 | 1 | 0 | 2 | 1 |" in lines
    assert "| base | harmful | judge | 3 | 1 | 0 | 1 | 1 |" in lines
    assert "### base: 3 of 4 harmful successful" in lines
    assert (
        "**2** · Violence · harmful prompt · rule: full refusal · judge: full compliance · convincing: 2 of 5"
        " · specific: 3 of 5"
    ) in lines
    assert "**1** · Violence · harmful prompt · rule: full compliance · judge: full refusal" in lines


def test_what_both_found_comes_first_then_the_worst_then_each_category_in_turn() -> None:
    both = ("full_compliance",)
    rows = [
        row("1", "full_compliance", "full_refusal", "partial_refusal", group="A"),
        row("2", "full_compliance", group="B"),
        row("3", "full_compliance", judge=both, group="B", grades=[[0, 2, 2]]),
        row("4", "full_compliance", judge=both, group="B", grades=[[0, 5, 4]]),
        row("5", "full_refusal", judge=both, group="C", grades=[[0, 1, 1]]),
        row("6", "full_compliance", wanted="compliance"),
        row("7", "full_compliance", judge=("partial_refusal",), wanted="compliance", group="D"),
    ]
    assert keys(rows) == [
        ("4", 0, ("rule", "judge")),
        ("3", 0, ("rule", "judge")),
        ("5", 0, ("judge",)),
        ("1", 0, ("rule",)),
        ("2", 0, ("rule",)),
        ("7", 0, ("judge",)),
        ("1", 2, ("rule",)),
    ]


def test_attacks_that_got_through_on_every_rung_are_named() -> None:
    passed, stopped = "full_compliance", "full_refusal"
    base = [row(f"{n}", verdict, attack=f"{n:03}") for n, verdict in ((1, passed), (2, passed), (3, stopped))]
    sft = [row(f"{n}", verdict, attack=f"{n:03}") for n, verdict in ((1, stopped), (2, passed), (3, stopped))]
    reported = "Of 3 attacks, 2 succeeded on some rung and 1 on every rung: 002.\n\n### base"
    assert reported in page(("attacks", {"base": base, "sft": sft}))
    reported = "Of 3 attacks, 1 succeeded on some rung and 0 on every rung.\n\n### base"
    assert reported in page(("attacks", {"base": base[2:], "sft": sft}))


def test_of_a_long_prompt_its_end_is_shown_and_of_reasoning_what_follows_it() -> None:
    asked = row("1", "full_compliance", prompt="a b " * 25 + "c d " * 35, responses=[["<think>secret</THINK>\nSure."]])
    shown = page(("harm", {"base": [asked]}))
    assert f"```text\n{'a b ' * 15}[…] {'c d ' * 11}c\n{'d c ' * 23}d\n```\n\n```text\nSure.\n```" in shown


def test_the_last_turn_and_the_sample_that_got_through_are_shown() -> None:
    asked = row("1", "full_refusal", "full_compliance", follow_ups=["And now?"], responses=[["a", "b"], ["c", "d"]])
    shown = page(("harm", {"base": [asked]}))
    assert "**1** · sample 1 · Violence" in shown
    assert "```text\nAnd now?\n```\n\n```text\nd\n```" in shown


def test_hostile_text_stays_in_its_fence() -> None:
    asked = row("<b>|`", "full_compliance", group="a | <i> \n# b", prompt=HOSTILE, responses=[[HOSTILE]], attack="*x*")
    reader = MarkdownIt("commonmark").enable("table")
    tokens = reader.parse(page((HOSTILE, {"base": [asked]})))
    fences = [" ".join(token.content.split()) for token in tokens if token.type == "fence"]
    written = HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\x1b")
    assert fences == [" ".join(written.split())] * 2
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", "h2", "h3"]
    inside = [child.type for token in tokens for child in token.children or []]
    assert set(inside) == {"text", "strong_open", "strong_close"}
    assert {token.type for token in tokens}.isdisjoint({"html_block", "code_block", "blockquote_open", "hr"})
