import pytest
from markdown_it import MarkdownIt

from ladder.data.markdown import cell, code, fenced, literal, table, text_table, visible


def test_a_table_puts_numbers_to_the_right_and_takes_bars_and_lines():
    assert table(["a", "b"], [("x|y\nz", 1234), ("w", 5)]) == "| a | b |\n| --- | --: |\n| x\\|y z | 1,234 |\n| w | 5 |"


def test_a_fence_is_longer_than_any_inside():
    assert fenced("a ````b").startswith("`````text\n")
    assert fenced("a").startswith("```text\n")


def test_what_cannot_be_seen_is_written_out():
    assert visible(" a\r\n\n b\tc\u2028d\x1b[2J\u202ee\ud800\x00 é 漢") == r"a b c d\x1b[2J\u202ee\ud800\x00 é 漢"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script> &lt; `code` *a* _b_ __c__ ~~d~~",
        "[link](https://example.com) ![image](x) \\* <https://example.com>",
        "contrast_homonyms",
        "a | b `|` c",
    ],
)
def test_literal_text_is_read_as_it_is_by_a_markdown_reader(text):
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    (inline,) = (token for token in reader.parse(f"**{literal(text)}**") if token.type == "inline")
    assert {token.type for token in inline.children} <= {"text", "strong_open", "strong_close"}
    assert "".join(token.content for token in inline.children) == text
    cell = [token for token in reader.parse(table(["head"], [[literal(text)]])) if token.type == "inline"][-1]
    assert {token.type for token in cell.children} == {"text"}
    assert "".join(token.content for token in cell.children) == text


def test_literal_text_stays_short():
    assert literal("contrast_homonyms") == "contrast_homonyms"


HOSTILE = [
    "a | b",
    "`code` and ``more``",
    "<img src=x onerror=alert(1)> <b>bold</b> &lt; &#60;",
    "*a* **b** _c_ ~~d~~",
    "[link](https://example.com) [ref][one] [note]: x",
    "two\nlines\r\nand | a bar",
    "back\\slash \\| \\` C:\\dir",
]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("quote", [cell, literal, code])
def test_text_in_a_table_has_no_effect_beyond_its_cell(text, quote):
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = reader.parse(table(["head", "next"], [[quote(text), "end"]]))
    cells = [token for token in tokens if token.type == "inline"]
    assert [one.content for one in (cells[0], cells[1], cells[3])] == ["head", "next", "end"] and len(cells) == 4
    kinds = {"code_inline"} if quote is code else {"text", "text_special", "html_entity"}
    assert {token.type for token in cells[2].children} <= kinds
    assert "".join(token.content for token in cells[2].children) == " ".join(text.split())


def test_plain_text_is_written_as_it_is():
    for text in ("+2.1 [-3.0, 7.2]", "alpaca_eval (%)", "sft/chat", "a ~ b & c > d", "25 of 64", "p < 0.05"[2:]):
        assert cell(text) == (text if "<" not in text else text.replace("<", "\\<"))


def test_a_text_table_is_aligned_and_shows_what_cannot_be_seen():
    assert text_table([["rung", "score"], ["sft/chat", "1.5"], ["a\x1b[2J", "2"]]) == (
        "rung      score\nsft/chat  1.5\na\\x1b[2J  2"
    )
