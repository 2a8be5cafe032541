"""Pins against hand-made OSV records, in the form of https://ossf.github.io/osv-schema/."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from conftest import ROOT
from ladder.pipeline.stage import UserError
from supply.audit import Advisory, Event, Finding, advisories, audit, in_range

JINJA: dict[str, Any] = {
    "schema_version": "1.6.0",
    "id": "GHSA-0000-0000-0001",
    "modified": "2026-01-02T03:04:05Z",
    "aliases": ["CVE-2026-0001"],
    "summary": "Sandbox breakout",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "Jinja2", "purl": "pkg:pypi/jinja2"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "3.1.6"}]}],
            "versions": ["3.1.4", "3.1.5"],
        }
    ],
}
TORCH: dict[str, Any] = {
    "schema_version": "1.6.0",
    "id": "PYSEC-2026-7",
    "modified": "2026-05-01T00:00:00Z",
    "details": "A crafted file\nruns code.",
    "affected": [
        {
            "package": {"ecosystem": "PyPI", "name": "torch"},
            "ranges": [
                {"type": "GIT", "repo": "https://example.org/x", "events": [{"introduced": "0"}]},
                {"type": "ECOSYSTEM", "events": [{"introduced": "2.0"}, {"last_affected": "2.12.1"}]},
            ],
        },
        {"package": {"ecosystem": "npm", "name": "jinja2"}, "versions": ["3.1.6"]},
    ],
}
PINS = {"constraints.txt": {"jinja2": "3.1.5", "torch": "2.12.1", "other": "1"}}
FOUND = [
    Finding(
        "jinja2", "3.1.5", "constraints.txt", "GHSA-0000-0000-0001", ("CVE-2026-0001",), ("3.1.6",), "Sandbox breakout"
    ),
    Finding("torch", "2.12.1", "constraints.txt", "PYSEC-2026-7", (), (), "A crafted file runs code."),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for record in (JINJA, TORCH):
        (tmp_path / f"{record['id']}.json").write_text(json.dumps(record))
    return tmp_path


def packed(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        for path in folder.glob("*.json"):
            archive.write(path, path.name)
    return folder / "all.zip"


def test_a_folder_and_a_zip_give_the_same_findings(folder):
    assert audit(advisories(folder), PINS) == (FOUND, "2026-05-01T00:00:00Z")
    assert audit(advisories(packed(folder)), PINS) == (FOUND, "2026-05-01T00:00:00Z")


def test_the_fixed_version_and_the_one_after_the_last_affected_match_nothing(folder):
    pins = {"constraints.txt": {"jinja2": "3.1.6", "torch": "2.13.0"}}
    assert audit(advisories(folder), pins)[0] == []


def test_every_requirement_file_is_read(folder):
    found, _ = audit(advisories(folder), {"locks/gpu.txt": {"jinja2": "2.0"}, "constraints.txt": {"jinja2": "3.1.6"}})
    assert [(item.file, item.version) for item in found] == [("locks/gpu.txt", "2.0")]


def test_a_withdrawn_advisory_matches_nothing(folder):
    (folder / "GHSA-0000-0000-0001.json").write_text(json.dumps({**JINJA, "withdrawn": "2026-03-01T00:00:00Z"}))
    assert [item.advisory for item in audit(advisories(folder), PINS)[0]] == ["PYSEC-2026-7"]


@pytest.mark.parametrize(
    ("events", "inside", "outside"),
    [
        ([{"introduced": "0"}], ["0.0.dev1", "99"], []),
        ([{"introduced": "1.2"}, {"fixed": "1.4"}], ["1.2", "1.2.0", "1.4rc1", "1.3.post1"], ["1.2rc1", "1.1", "1.4"]),
        ([{"introduced": "1"}, {"last_affected": "1.4"}], ["1.4", "1.4.0"], ["1.4.1", "0.9", "1.4.post1"]),
        # Two intervals, the events in no order.
        (
            [{"fixed": "2.1"}, {"introduced": "0"}, {"introduced": "2.0"}, {"fixed": "1.5"}],
            ["1.4", "2.0", "2.0.9"],
            ["1.5", "1.9", "2.1"],
        ),
        ([{"introduced": "0"}, {"limit": "3"}], ["2.9"], ["3", "3.1"]),
        ([{"introduced": "0"}, {"limit": "*"}], ["3"], []),
        ([{"introduced": "1!0"}], ["1!1"], ["2026.1"]),
        ([], [], ["1"]),
    ],
)
def test_ranges_are_ordered_by_pep_440(events, inside, outside):
    parsed = [Event(**event) for event in events]
    assert [text for text in inside if not in_range(Version(text), parsed)] == []
    assert [text for text in outside if in_range(Version(text), parsed)] == []


@pytest.mark.parametrize(("version", "found"), [("1.0", True), ("1.1", False)])
def test_listed_versions_are_compared_as_versions(version, found):
    listed = {"package": {"ecosystem": "PyPI", "name": "X_y"}, "versions": ["1.0.0", "not a version"]}
    record = Advisory.model_validate({"id": "A-1", "affected": [listed]})
    assert bool(audit([record], {"f": {"x-y": version}})[0]) is found


def test_a_range_that_pep_440_cannot_order_counts_as_a_match():
    odd = {
        "package": {"ecosystem": "PyPI", "name": "x"},
        "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2007-fall"}]}],
    }
    assert audit([Advisory.model_validate({"id": "A-1", "affected": [odd]})], {"f": {"x": "1"}})[0] != []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("x.json", b"{", "x.json: the file: Invalid JSON"),
        ("x.json", b"[]", "x.json: the file: expected an object"),
        ("x.json", b'{"id": 3}', "x.json: id: expected a valid string"),
        ("x.json", b'{"id": "A", "affected": [{"ranges": [{"type": "GIT"}]}]}', r"x.json: affected.0.ranges.0.events:"),
        ("x.json", b"[" * 100_000, "x.json: the file: Invalid JSON: recursion limit"),
        ("x.zip", b"not a zip", "x.zip: not a readable zip file"),
        ("empty/y.txt", b"", "no advisory of PyPI in the database"),
    ],
)
def test_what_is_no_database_is_refused(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    database = path if path.suffix == ".zip" else path.parent
    with pytest.raises(UserError, match=sentence):
        audit(advisories(database), PINS)


def test_a_truncated_zip_is_refused(folder):
    path = packed(folder)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"all.zip: not a readable zip file"):
        audit(advisories(path), PINS)


def test_a_database_of_another_ecosystem_is_refused(folder):
    other = {**JINJA, "affected": [{"package": {"ecosystem": "npm", "name": "jinja2"}}]}
    with pytest.raises(UserError, match="no advisory of PyPI in the database"):
        audit([Advisory.model_validate(other)], PINS)


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supply.audit", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_the_command_reads_the_real_pins_and_accepts_listed_advisories(tmp_path):
    entry = {"package": {"ecosystem": "PyPI", "name": "Jinja2"}, "versions": ["3.1.6"]}
    (tmp_path / "x.json").write_text(json.dumps({**JINJA, "affected": [entry]}))
    ran = run(tmp_path)
    assert (ran.returncode, ran.stdout.splitlines()) == (
        1,
        [
            "constraints.txt: jinja2==3.1.6: GHSA-0000-0000-0001 CVE-2026-0001: Sandbox breakout (no fixed version)",
            "1 advisories match, 0 accepted; newest record of 2026-01-02T03:04:05Z",
        ],
    )
    accepted = run(tmp_path, "--accept", "CVE-2026-0001")
    assert (accepted.returncode, accepted.stdout) == (
        0,
        "0 advisories match, 1 accepted; newest record of 2026-01-02T03:04:05Z\n",
    )


def test_the_command_refuses_in_one_line(tmp_path):
    ran = run(tmp_path / "none.zip")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "none.zip: no such file or folder; expected OSV's all.zip" in ran.stderr
