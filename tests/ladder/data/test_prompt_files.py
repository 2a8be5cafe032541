import pytest

from ladder.data.prompt_files import read_lines, read_template
from ladder.pipeline.stage import UserError


def write(tmp_path, text):
    path = tmp_path / "deepen.txt"
    path.write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return path


def test_a_template_is_its_text_and_other_braces_are_text(tmp_path):
    path = write(tmp_path, 'Reply with {"a": {}}.\n\n{instruction}\n')
    assert read_template(path, {"instruction"}) == 'Reply with {"a": {}}.\n\n{instruction}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Rewrite this.", r"deepen.txt: missing {instruction}; expected the fields {instruction}"),
        ("{instruction} {audience}", r"deepen.txt: no such field {audience}; expected the fields {instruc"),
        (" \n", "deepen.txt: empty"),
        (b"caf\xe9 {instruction}", "deepen.txt: not UTF-8 at byte 3"),
    ],
)
def test_a_template_that_does_not_fit_is_refused_by_file_and_field(tmp_path, text, said):
    with pytest.raises(UserError) as refusal:
        read_template(write(tmp_path, text), {"instruction"})
    assert said in str(refusal.value)


def test_a_template_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="deepen.txt: no such file"):
        read_template(tmp_path / "deepen.txt", set())


def test_lines_are_read_without_blanks_and_each_once(tmp_path):
    assert read_lines(write(tmp_path, " a nurse \n\na pilot\n")) == ["a nurse", "a pilot"]
    with pytest.raises(UserError, match="deepen.txt:3: 'a nurse' is already in line 1"):
        read_lines(write(tmp_path, "a nurse\na pilot\na nurse"))
