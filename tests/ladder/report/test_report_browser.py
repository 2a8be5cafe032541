"""The page of `ladder report` in Chromium: no request, no script of an answer, filters, keys, address, differences."""

import json
import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import pytest

from browser import Browser, browser
from ladder.report.report_page import write
from report_project import AFTER, BEFORE, HOSTILE, project, text

TEXTS = (
    "[...document.querySelectorAll('.side')].map((side) => "
    "[...side.querySelectorAll('pre')].map((pre) => pre.textContent).join(''))"
)
SELECTED = "document.querySelector('[aria-selected=true] small').textContent"
WORDS = [
    ("the cat sat on the mat", "the dog sat on a mat"),
    ("a b c a b b a", "c b a b a c"),  # Myers 1986, figure 1: a longest common subsequence has 4 letters
    ("", "new text"),
    ("same", "same"),
    ("one\n```\nx = 1\n```\n", "one\n```\nx = 2\ny = 3\n```\n"),
    ("我喜欢猫", "我喜欢狗"),
    ("<b>&amp;</b>", "<i>&amp;</i>"),
]


class Opened(NamedTuple):
    page: Browser
    address: str


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    home, here = tmp_path_factory.mktemp("project"), Path.cwd()
    with browser(tmp_path_factory.mktemp("profile")) as page:
        os.chdir(home)
        try:
            project(home)
            write([None], Path("report/index.html"))
        finally:
            os.chdir(here)
        page.size(1280, 900)
        yield Opened(page, (home / "report/index.html").as_uri())


def longest_common(one: list[str], other: list[str]) -> int:
    """Length of a longest common subsequence, by its recurrence."""
    lengths = [0] * (len(other) + 1)
    for word in one:
        before = lengths[:]
        for place, match in enumerate(other):
            lengths[place + 1] = before[place] + 1 if word == match else max(lengths[place], before[place + 1])
    return lengths[-1]


def unmarked(words: list[str], marked: list[list[int]]) -> list[str]:
    """The words that begin outside of the marked ranges of characters."""
    starts = accumulate(map(len, words), initial=0)
    placed = zip(starts, words, strict=False)
    return [word for start, word in placed if not any(begin <= start < end for begin, end in marked)]


def test_nothing_is_requested_and_no_script_of_an_answer_runs(opened: Opened) -> None:
    page, address = opened
    for section in ("", "#view=answers&show=changed"):
        page.open(address + section)
        assert page.run("document.querySelectorAll('img').length") == 0
        assert page.run("document.querySelectorAll('script').length") == 5
    assert {request for request in page.requests if not request.startswith("about:")} == {address}
    assert page.faults == []


def test_filters_count_what_was_gained_and_lost(opened: Opened) -> None:
    page, address = opened
    lost = sum(before > now for before, now in zip(BEFORE, AFTER, strict=True))
    gained = sum(before < now for before, now in zip(BEFORE, AFTER, strict=True))
    counts = {"": 32, "regressed": lost, "improved": gained, "changed": 16, "unchanged": 0}
    for show, count in counts.items():
        page.open(f"{address}#view=answers&show={show}")
        assert page.run("document.querySelector('#rows').style.height") == f"{56 * count}px"
    page.open(address)
    said = page.run("document.querySelector('output').textContent")
    assert said == f"32 of 32 answers: {lost} regressed, {gained} improved"
    assert page.run("document.querySelector('.kind').textContent") == "▼ regressed: right before, wrong now"


def test_only_visible_rows_are_rendered(opened: Opened) -> None:
    page, address = opened
    page.open(f"{address}#view=answers")
    assert page.run("items.length") == 32
    page.run("list.style.height = '112px'; showRows()")
    assert page.run("document.querySelectorAll('.row').length") == 2 + 4  # and four below
    page.run("list.scrollTop = 560")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run("[...document.querySelectorAll('.row')].map((row) => row.id)")[0] == "row-6"


def test_keys_move_search_and_open_help(opened: Opened) -> None:
    page, address = opened
    page.open(f"{address}#view=answers&show=regressed")
    assert page.run(SELECTED) == "made · q0"
    page.press("j")
    page.press("j")
    page.press("k")
    assert page.run(SELECTED) == "made · q1"
    page.press("/")
    assert page.run("document.activeElement.name") == "q"
    page.press("7")  # typed into the field
    assert page.run("document.activeElement.value") == "7"
    assert page.run("[...document.querySelectorAll('.row small')].map((one) => one.textContent)[0]") == "made · q7"
    page.press("Escape")
    page.press("?")
    assert page.run("document.getElementById('help').open") is True


def test_the_address_opens_the_same_view(opened: Opened) -> None:
    page, address = opened
    page.open(f"{address}#view=answers&show=regressed")
    for _ in range(3):
        page.press("j")
    page.press("d")
    shared, shown = page.run("location.href"), page.run("document.querySelector('#detail').innerHTML")
    page.open(address)
    assert page.run("document.querySelector('#detail').innerHTML") != shown
    page.open(shared)
    assert page.run("document.querySelector('#detail').innerHTML") == shown
    assert page.run(SELECTED) == "made · q3"


def test_a_box_of_the_graph_leads_to_the_answers_of_its_rung(opened: Opened) -> None:
    page, address = opened
    page.open(address)
    page.run("document.querySelectorAll('a.node')[1].dispatchEvent(new MouseEvent('click', {bubbles: true}))")
    page.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.run("[answerForm.elements.benchmark.value, answerForm.elements.rung.value]") == ["made", HOSTILE]
    assert page.run("found.length") == 16


def test_both_answers_are_shown_whole_with_code_blocks(opened: Opened) -> None:
    page, address = opened
    page.open(f"{address}#view=answers&show=regressed")
    assert page.run(TEXTS) == [text(rung, 0).replace("\u202e", r"\u202e") for rung in ("base", HOSTILE)]
    assert page.run("document.querySelector('.side pre.code').textContent") == "```python\nprint(1)\n```\n"
    assert "mono" in page.run("getComputedStyle(document.querySelector('pre.code')).fontFamily")
    assert page.run("[...document.querySelectorAll('del')].map((one) => one.textContent)") == ["base"]
    assert page.run("[...document.querySelectorAll('ins')].map((one) => one.textContent).join('')") == (
        "</script><img src=x onerror=alert(2)>"
    )


@pytest.mark.parametrize(("before", "after"), WORDS, ids=[first[:12] for first, _ in WORDS])
def test_the_difference_is_a_shortest_one(opened: Opened, before: str, after: str) -> None:
    page, address = opened
    if not page.run("typeof difference === 'function'"):
        page.open(address)
    texts = json.dumps([before, after])
    one, other = page.run(f"{texts}.map((text) => text.match(WORDS) ?? [])")
    found = page.run(f"difference(...{texts})")
    assert "".join(one) == before and "".join(other) == after
    kept = unmarked(one, found["removed"])
    assert kept == unmarked(other, found["added"])
    assert len(kept) == longest_common(one, other)


def test_nothing_is_wider_than_a_telephone(opened: Opened) -> None:
    page, address = opened
    page.size(390, 844, dark=True)
    page.open(f"{address}#view=answers")
    assert page.run("document.documentElement.scrollWidth") == 390
    assert (
        page.run("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 27)"
    )  # --ground of the dark theme
    page.press("t")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(246, 247, 249)"
    page.size(1280, 900)


def test_the_chart_shows_the_chosen_curve_with_its_unit(opened: Opened) -> None:
    page, address = opened
    page.open(f"{address}#view=curves&quantity=loss")
    assert page.run("document.querySelector('#chart .axis-title').textContent") == "loss (nats per token)"
    cells = "[...document.querySelectorAll('#curve-table td')].map((cell) => cell.textContent)"
    assert page.run(cells) == ["nats per token", "10", "1", "0.1", "0.1", "1"]
    page.run("document.querySelector('#chart svg').focus()")
    page.press("End")
    assert page.run("document.querySelector('.readout').textContent") == "sft/a: step 10, 0.1"
