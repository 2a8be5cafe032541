"""docs/licenses.md against the locks, the sources in use and the metadata of installed packages."""

import importlib.metadata
import re

import pytest

from conftest import ROOT
from ladder.pipeline.stage import UserError
from supply import licenses
from supply.licenses import Stated, covers, data_sets, plain, shipped, stated, used_sources
from supply.lock import locked

PAGE = (ROOT / "docs/licenses.md").read_text()


def table(heading: str) -> list[list[str]]:
    """The cells of the table under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows[1:]]


def test_the_packages_are_those_of_the_locks():
    expected = [(name, version, file) for file, pins in locked().items() for name, version in pins.items()]
    assert [tuple(row[:3]) for row in table("Packages")] == expected


def test_no_package_is_without_a_license_or_a_flag():
    assert [
        row[0] for row in table("Packages") if not row[3] or (row[3] == "unknown") is not (row[4] == "unknown")
    ] == []


def test_an_installed_package_states_the_license_that_the_page_has():
    """Parsed again, from `License-Expression` alone."""
    rows = {row[0]: row for row in table("Packages")}
    compared = 0
    for name, version in locked()["constraints.txt"].items():
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        expression = package.metadata["License-Expression"]
        if expression and package.version == version:
            assert rows[name][3] == expression
            compared += 1
    assert compared >= 50


@pytest.mark.parametrize(
    ("name", "license", "flag"),
    [
        ("mergekit", "LGPL-3.0-only", "copyleft"),
        ("tqdm", "MPL-2.0 AND MIT", "copyleft"),
        ("asyncssh", "EPL-2.0 OR GPL-2.0-or-later", "copyleft"),
        ("dulwich", "Apache-2.0 OR GPL-2.0-or-later", ""),
        ("numpy", "BSD License", ""),
        ("nvidia-cudnn-cu13", "LicenseRef-NVIDIA-Proprietary", "proprietary"),
    ],
)
def test_known_licenses(name, license, flag):
    assert [row[3:5] for row in table("Packages") if row[0] == name] == [[license, flag]]


@pytest.mark.parametrize(
    ("found", "text", "flag"),
    [
        (stated("MIT", ["License :: OSI Approved :: BSD License"], "x"), "MIT", ""),
        (stated(None, ["License :: OSI Approved", "License :: OSI Approved :: BSD License"], ""), "BSD License", ""),
        (stated(None, ["Topic :: X"], "Apache 2.0"), "Apache 2.0", ""),
        (stated(None, None, "MIT License\n\nCopyright (c) somebody"), "MIT License", ""),
        (stated(None, None, "Copyright (c) somebody\nAll rights"), "unknown", "unknown"),
        (stated(None, None, "x" * 61), "unknown", "unknown"),
        (stated(None, None, None), "unknown", "unknown"),
        (stated("MPL-2.0 AND (Apache-2.0 OR MIT)", None, None), "MPL-2.0 AND (Apache-2.0 OR MIT)", "copyleft"),
        (stated("GPL-2.0 OR LGPL-3.0", None, None), "GPL-2.0 OR LGPL-3.0", "copyleft"),
        (stated("CC-BY-NC-4.0", None, None), "CC-BY-NC-4.0", "proprietary"),
        (stated("CC-BY-4.0", None, None), "CC-BY-4.0", ""),
    ],
)
def test_what_metadata_states(found: Stated, text, flag):
    assert (str(found), found.flag()) == (text, flag)


def test_every_source_and_every_shipped_file_belongs_to_one_data_set():
    sources = [*used_sources(), *shipped()]
    assert len(used_sources()) >= 30 and len(shipped()) >= 20
    assert {source for source in sources if sum(covers(entry, source) for entry in data_sets()) != 1} == set()


def test_every_wheel_of_the_default_parameters_is_found():
    text = (ROOT / "params.yaml").read_text()
    assert set(re.findall(r"wheel:\S+", text)) <= set(used_sources())


def test_every_data_set_is_on_the_page_as_recorded():
    rows = {row[0]: row for row in table("Models and data sets")}
    assert list(rows) == [entry["name"] for entry in data_sets()]
    for entry in data_sets():
        assert rows[str(entry["name"])][1:4] == [entry["what"], entry["used"], entry["license"]]
        assert all(f"`{prefix}`" in rows[str(entry["name"])][6] for prefix in entry["sources"])  # type: ignore[attr-defined]


def test_used_by_default_is_what_the_default_parameters_name():
    default = [plain(found) for found in re.findall(r"wheel:\S+", (ROOT / "params.yaml").read_text())]
    for entry in data_sets():
        named = any(covers(entry, found) for found in re.findall(r"wheel:\S+", (ROOT / "params.yaml").read_text()))
        assert named is (entry["used"] == "default"), (entry["name"], default)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("wheel:a-b==1.0/x/y.json", "wheel:a-b/x/y.json"),
        ("hub:datasets/org/name@" + 40 * "0" + "/f.csv", "hub:datasets/org/name/f.csv"),
        ("hub:org/name@" + 40 * "0", "hub:org/name"),
        ("data/seeds/tasks.yaml", "data/seeds/tasks.yaml"),
    ],
)
def test_a_source_without_its_version(source, name):
    assert plain(source) == name


def test_a_source_without_a_data_set_is_refused(monkeypatch):
    monkeypatch.setattr(licenses, "used_sources", lambda: ["wheel:new==1/rows.json"])
    monkeypatch.setattr(licenses, "data_sets", lambda: data_sets()[-2:])
    with pytest.raises(UserError, match=r"data.yaml: wheel:new==1/rows.json: expected a data set with this source"):
        list(licenses.data_rows())


def test_a_data_set_that_nothing_uses_is_refused(monkeypatch):
    unused = {"name": "Unused", "what": "", "license": "MIT", "used": "default", "sources": ["wheel:unused/x"]}
    monkeypatch.setattr(licenses, "data_sets", lambda: [unused])
    with pytest.raises(UserError, match=r"data.yaml: Unused: expected a source that is used"):
        list(licenses.data_rows())
