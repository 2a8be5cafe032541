import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy import stats

from ladder.rows import Row, write_json, write_rows
from ladder.run import Refused
from stages.report import Params, main

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"' &amp;"


def write_rung(folder: Path, rung: str, solved: list[bool], ledger: Row, response: str = "text") -> None:
    """A rung as the stages before leave it; prompts with one instruction each, so that all scores are one."""
    rows = [
        {"key": key, "instruction_id_list": ["punctuation:no_comma"], "strict": [passed], "loose": [passed],
         "prompt": f"prompt {key}", "response": response, "tokens": 1234, "finished": passed}
        for key, passed in enumerate(solved)
    ]  # fmt: skip
    write_rows(folder / "data" / "ifeval" / f"{rung}.jsonl", rows)
    score = round(100 * sum(solved) / len(solved), 2)
    interval = {
        f"mean_{kind}_{end}": score + by for kind in ("strict", "loose") for end, by in (("low", -5), ("high", 5))
    }
    made_by = {"rows": len(solved), "of": 541, "finished": score, "rung": ledger}
    summary = {"mean_strict": score, "mean_loose": score, "interval": interval, "made_by": made_by}
    write_json(folder / "metrics" / "ifeval" / f"{rung}.json", summary)


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    none, some = [False] * 40, [True] * 12 + [False] * 28
    trained = {"parameters": 100_000_000, "trainable_parameters": 2_500_000, "seconds": 61.5}
    write_rung(tmp_path, "base", none, {"method": "base", "parent": "", "parameters": 1_000_000})
    write_rung(tmp_path, "sft/chat", some, {"method": "sft", "parent": "base", **trained}, HOSTILE)
    write_rung(tmp_path, "merge/soup", some, {"method": "merge", "parent": "sft/chat + base", "parameters": 1_000_000})
    write_rung(tmp_path, "alone", some, {"method": "sft", "parent": "elsewhere", **trained})
    return tmp_path


def report(folder: Path, *rungs: str) -> Path:
    main(
        Params(benchmark="ifeval", rungs=list(rungs)),
        folder / "data/ifeval",
        folder / "metrics/ifeval",
        folder / "report",
    )
    return folder / "report"


def test_the_table(ladder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = report(ladder, "base", "sft/chat", "merge/soup", "alone")
    table = (output / "table.md").read_text(encoding="utf-8").splitlines()
    assert table[0] == "# The ladder on ifeval: 40 of 541 prompts"
    assert table[4] == "| base | base |  |  | 0.0 [-5.0, 5.0] | 0.0 [-5.0, 5.0] |  |  |"
    shown = "+30.0 [17.5, 45.0] better"
    assert table[5] == (
        f"| sft/chat | sft | base | 2.5 M (2.5%) | 30.0 [25.0, 35.0] | 30.0 [25.0, 35.0] | 62 | {shown} |"
    )
    assert table[6].endswith("| +0.0 [0.0, 0.0] not distinguishable |")  # against the first of two parents
    assert table[7].endswith("| 62 |  |")  # its parent is not in the table
    against = json.loads((output / "table.json").read_text())[1]["against_parent"]
    assert (against["difference"], against["gained"], against["lost"]) == (30.0, 12, 0)
    # Resampled, the number of gains is binomial(40, 0.3): its quantiles are 7 and 18 of 40.
    assert [stats.binom.ppf(tail, 40, 0.3) / 40 for tail in (0.025, 0.975)] == [0.175, 0.45]
    assert (against["low"], against["high"]) == (17.5, 45.0)
    assert (output / "rungs.tsv").read_text().splitlines()[:3] == [
        "rung\tscore\tlow\thigh",
        "base\t0.00\t-5.00\t5.00",
        "sft/chat\t30.00\t25.00\t35.00",
    ]
    printed = capsys.readouterr().out.splitlines()
    assert printed[2].index("strict") == printed[3].index("0.0 [") == printed[4].index("30.0 [")
    assert printed[2].index("against") == printed[4].index(shown)


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and the text of each <pre>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.inside = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag == "pre"
        if self.inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_hostile_answer_stays_text(ladder: Path) -> None:
    page = Page((report(ladder, "base", "sft/chat") / "answers.html").read_text(encoding="utf-8"))
    assert len(page.named("script")) == 1
    assert page.named("img") == []
    assert page.texts.count("\n" + HOSTILE) == 40  # the parser of <pre> drops the first newline
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    policy = page.named("meta")[1]["content"]
    assert policy is not None
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not any("src" in attributes or "href" in attributes for _, attributes in page.elements)


def test_answers_are_marked_against_the_parent(ladder: Path) -> None:
    page = Page((report(ladder, "base", "sft/chat", "merge/soup") / "answers.html").read_text(encoding="utf-8"))
    articles = page.named("article")
    assert [article["data-gained"] for article in articles] == ["1"] * 12 + [""] * 28
    assert [article["data-changed"] for article in articles] == ["1"] * 12 + [""] * 28
    assert [article["data-solved"] for article in articles] == ["2"] * 12 + ["0"] * 28


def test_a_rung_that_got_worse_is_marked_lost(ladder: Path) -> None:
    write_rung(ladder, "down", [False] * 40, {"method": "dpo", "parent": "sft/chat", "parameters": 1})
    output = report(ladder, "sft/chat", "down")
    assert json.loads((output / "table.json").read_text())[1]["against_parent"]["verdict"] == "worse"
    articles = Page((output / "answers.html").read_text(encoding="utf-8")).named("article")
    assert [article["data-lost"] for article in articles] == ["1"] * 12 + [""] * 28


def test_refuses_a_rung_without_its_files(ladder: Path) -> None:
    with pytest.raises(Refused, match="metrics/ifeval/dpo/chat.json: no such file"):
        report(ladder, "base", "dpo/chat")
    (ladder / "metrics" / "ifeval" / "sft" / "chat.json").write_text("{")
    with pytest.raises(Refused, match="metrics/ifeval/sft/chat.json: not JSON"):
        report(ladder, "sft/chat")


def test_refuses_rungs_that_answered_different_prompts(ladder: Path) -> None:
    write_rung(ladder, "short", [True] * 39, {"method": "sft", "parent": "base", "parameters": 1})
    with pytest.raises(Refused, match="short.jsonl: its prompts are not those of base"):
        report(ladder, "base", "short")
