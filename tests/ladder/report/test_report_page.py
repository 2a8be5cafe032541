"""The page of `ladder report`: escaping, policy, absent files, revisions and their comparison."""

import base64
import hashlib
import json
import os
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from scipy import stats

from ladder.__main__ import main
from ladder.pipeline.errors import UserError
from ladder.report.report_page import write
from report_project import AFTER, HOSTILE, git, project, text


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home, here = tmp_path_factory.mktemp("project"), Path.cwd()
    os.chdir(home)
    try:
        project(home)
    finally:
        os.chdir(here)
    return home


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the project, as the current folder."""
    shutil.copytree(made, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


class Page(HTMLParser):
    """Names of the elements, and the texts in <script>, <style>, <title> and <th>, and all other text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.inside = ""
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "th": [], "": []}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.append(dict(attrs))
        if tag in self.texts:
            self.inside = tag
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.texts[self.inside][-1] += data
        else:
            self.texts[""].append(data)

    @property
    def data(self) -> dict[str, list[dict[str, object]]]:
        return json.loads(self.texts["script"][0])

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.texts[""]).split())


def page(*revisions: str | None) -> Page:
    write(list(revisions), Path("report/index.html"))
    return Page(Path("report/index.html"))


def hashed(part: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}'"


def test_hostile_names_and_answers_stay_text(here: Path) -> None:
    found = page(None)
    assert "img" not in found.tags
    assert not [name for attributes in found.attributes for name in attributes if name.startswith("on")]
    assert found.tags.count("script") == 5  # the data and four scripts
    assert any(head.startswith(HOSTILE) for head in found.texts["th"])
    assert [column["name"] for column in found.data["columns"]] == ["base", HOSTILE]
    (benchmark,) = found.data["benchmarks"]
    shown = benchmark["questions"][3]["answers"][1]["turns"]  # type: ignore[index]
    assert shown == [text(HOSTILE, 3).replace("\u202e", r"\u202e")]


def test_the_policy_allows_the_style_and_the_scripts_of_the_page_alone(here: Path) -> None:
    found = page(None)
    (policy,) = [one["content"] for one in found.attributes if one.get("http-equiv") == "Content-Security-Policy"]
    scripts = " ".join(map(hashed, found.texts["script"][1:]))
    assert policy == (
        f"default-src 'none'; style-src {hashed(found.texts['style'][0])}; script-src {scripts}; base-uri 'none'; "
        "form-action 'none'"
    )
    assert not [one for one in found.attributes if "style" in one or "src" in one]
    links = {one["href"] for tag, one in zip(found.tags, found.attributes, strict=True) if "href" in one}
    assert all(link is not None and link.startswith("#") for link in links)


def test_the_numbers_are_those_of_the_table(here: Path) -> None:
    words = page(None).words
    assert "31.2 [10.0, 90.0] -43.8 [-75.0, -6.2] ● no significant difference" in words
    assert "p (Holm) 0.092 · n 16 · 3 gained , 10 lost" in words
    assert "filter/web: 10 rows in, 4 rows out" in words
    assert "data/filter/web.rejected.md is absent" in words


def test_pairs_of_report_compare_have_a_table(here: Path) -> None:
    lines = json.loads(Path("report/table.json").read_text())
    change = lines[1]["benchmarks"]["made"]["against_baseline"]
    lines[0]["benchmarks"]["made"]["against"] = {HOSTILE: {**change, "difference": 43.75, "verdict": "improved"}}
    Path("report/table.json").write_text(json.dumps(lines))
    found = page(None)
    assert f"{HOSTILE} made +43.8 [-75.0, -6.2] 0.092 16 ▲ improved" in found.words
    assert "img" not in found.tags


def test_curves_have_the_units_of_dvc_yaml_and_leave_out_steps_without_a_value(here: Path) -> None:
    (curve,) = page(None).data["curves"]
    assert curve["columns"] == {
        "loss": {"unit": "nats per token", "points": [[step, float(f"{1 / step:.6g}")] for step in range(1, 11)]},
        "validation_loss": {"unit": "", "points": [[step, 0.5] for step in range(2, 11, 2)]},
    }


def test_a_clone_without_data_says_what_to_pull(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("data")
    main(["report", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["rungs"], found["answers"]) == (2, 0)
    assert found["missing"] == [
        "workspace: files not pulled: data/benchmark (2). Run `dvc pull`, then `ladder report` again."
    ]
    assert found["missing"][0] in Page(Path("report/index.html")).words


def test_files_of_an_older_form_are_left_out_and_named(here: Path) -> None:
    Path("report/table.json").write_text('[{"rung": "base", "ifeval": 3}]')
    done = write([None], Path("page.html"))
    assert (done.rungs, done.answers) == (0, 0)
    assert done.missing == ["workspace: files in a form that is no longer written: report/table.json. Left out."]
    assert "sft/a" in Page(done.path).texts["script"][0]  # its curve is there


def test_an_older_revision_is_read_from_git_and_the_cache(here: Path) -> None:
    results = here / "report/table.json"
    results.unlink()
    shutil.rmtree("data")
    done = write(["v1"], Path("report/index.html"))
    assert (done.rungs, done.answers, done.missing) == (2, 32, [])
    assert f"v1 ({git('rev-parse', 'v1')[:7]})" in Page(done.path).words


def test_two_revisions_are_compared_question_by_question(here: Path) -> None:
    found = page("v1", "v2")
    # v1 solved the first 12 questions; v2 solves 2 of them and 3 others
    p = stats.binomtest(3, 13).pvalue
    assert f"-43.8 [-75.0, -6.2] ▼ regressed p (Holm) {p:.2g}" not in found.words
    assert f"● no significant difference p (Holm) {p:.2g} · n 16 · 3 gained , 10 lost" in found.words
    assert f"● no significant difference identical answers · n {len(AFTER)}" in found.words
    names = [(column["name"], column["base"]) for column in found.data["columns"]]
    assert names == [("base at v1", -1), (f"{HOSTILE} at v1", -1), ("base at v2", 0), (f"{HOSTILE} at v2", 1)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--revision", "v9"], "ladder: report: v9: "),
        (["--revision", "v1", "--compare", "v1", "v2"], "ladder: report: --revision: given together with --compare"),
    ],
)
def test_wrong_revisions_are_refused(
    here: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["report", *words])
    assert stopped.value.code != 0
    assert said.removeprefix("ladder: report: ") in f"{stopped.value.code}{capsys.readouterr().err}"


def test_a_project_without_results_is_refused(here: Path) -> None:
    shutil.rmtree("report")
    shutil.rmtree("plots")
    with pytest.raises(UserError, match=r"workspace: nothing to show; expected report/table.json or plots/"):
        write([None], Path("page.html"))
    assert not Path("page.html").exists()
