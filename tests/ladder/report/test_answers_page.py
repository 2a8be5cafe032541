"""The page of answers: hostile text stays text, and the policy allows the page's own style and script alone."""

import base64
import hashlib
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser

import pytest

from conftest import ROOT
from ladder.report.answers_page import Answer, Mark, Part, Question, Standing, answers_page

SHOWN = {
    "</script><script>alert(1)</script>": None,
    "</pre></section></article><img src=x onerror=alert(1)>": None,
    "<!-- &lt;b&gt; &#0; ]]> ' \" `": None,
    "{{ 7 * 7 }} {% for x in y %} {# gone #}": None,
    "\n\nwith\tempty lines\n": None,
    "מים 👩‍👩‍👧": None,
    "a" * 1_000_000: None,
    "nul \x00, bell \x07, escape \x1b[2J": r"nul \x00, bell \x07, escape \x1b[2J",
    "half \ud83d of a pair": r"half \ud83d of a pair",
    "photo\u202egnp.exe\u202c": r"photo\u202egnp.exe\u202c",
}
"""What the page shows of a text, None for the text itself."""


class Page(HTMLParser):
    """Attributes by element, and the text of each <pre>, <style>, <script>, <h1>, <h2>, <h3> and <option>."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {
            name: [] for name in ("pre", "style", "script", "h1", "h2", "h3", "option", "title")
        }
        self.inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag in self.texts:
            self.inside = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside][-1] += data


def page(text: str) -> Page:
    """A page that has this text wherever a name or text of a rung, a benchmark or a data set goes."""
    answer = Answer([text, "second"], [Mark(text, "passed"), Mark(text, value=text)], 3, False, change="gained")
    standing = Standing(text, text, "1.0 [0.0, 2.0]", (1, 0, 2), text, "better")
    part = Part(text, text, True, [standing], [Question(text, text, [text], [answer])])
    document = answers_page(text, text, [part])
    document.encode("utf-8")
    return Page(document)


@pytest.mark.parametrize("text", SHOWN, ids=lambda text: ascii(text[:20]))
def test_hostile_text_stays_text(text):
    found, plain = page(text), page("plain")
    shown = SHOWN[text] or text
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert [set(attributes) for _, attributes in found.elements] == [set(names) for _, names in plain.elements]
    assert found.texts["pre"] == [f"\n{shown}", f"\n{shown}", "\nsecond"]  # browsers drop the first newline of <pre>
    assert found.texts["title"] == found.texts["h1"] == [shown]
    assert found.texts["h2"] == [f"{shown} · {shown}"]
    (article,) = [attributes for tag, attributes in found.elements if tag == "article"]
    assert (article["data-benchmark"], article["data-gained"], article["data-changed"]) == (shown, "0", "0")


def test_the_policy_allows_the_style_and_the_script_of_the_page_alone():
    found = page("plain")
    (style,), (script,) = found.texts["style"], found.texts["script"]
    allowed = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    (policy,) = [
        names["content"] for _, names in found.elements if names.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{allowed[0]}'; script-src 'sha256-{allowed[1]}'; base-uri 'none'; "
        "form-action 'none'"
    )
    assert "{ color-scheme: light dark;" in style and 'form.addEventListener("input", columns);' in script
    assert not {"style", "src", "href"} & {name for _, attributes in found.elements for name in attributes}


def test_the_turns_of_a_conversation_are_numbered():
    answer = Answer(["one", " "], [], None, True)
    part = Part("b", "b", False, [Standing("r", "", "1 [0, 2]", (1, 0, 2))], [Question("k", "g", ["a", "b"], [answer])])
    text = answers_page("t", "n", [part])
    assert text.count('<small class="turn">Turn 1</small>') == text.count('<small class="turn">Turn 2</small>') == 2
    assert text.count("<p>No text.</p>") == 1


def test_an_installed_package_has_the_files_of_its_pages():
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    declared = [
        f"{package.replace('.', '/')}/{pattern}" for package, found in package_data.items() for pattern in found
    ]
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "ladder").rglob("*") if path.is_file()]
    data = [file for file in files if not file.endswith((".py", ".pyc"))]
    assert [file for file in data if not any(fnmatch(file, pattern) for pattern in declared)] == []
    assert "ladder/report/static/answers.css" in data
