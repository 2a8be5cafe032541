import pytest
from markdown_it import MarkdownIt

from ladder.report.markdown import fenced, literal, table, visible


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
