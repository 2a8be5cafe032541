"""License of every locked package and of every model and data set: writes docs/licenses.md.

python -m supply.licenses --pip .cache/tools/bin/pip    # `make licenses` installs pip and runs this

A package's license is what its metadata states (License-Expression, else classifiers, else License): of the installed
package, else of the index's file, which pip reads without installing it (pip 23.1 or newer). Of models and data sets it
is what supply/data.yaml records. No license text was read for this list.
"""

import argparse
import importlib.metadata
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from ladder.data.download import parse
from ladder.pipeline.stage import UserError
from supply.lock import ROOT, locked

PAGE = ROOT / "docs/licenses.md"
DATA = ROOT / "supply/data.yaml"
COPYLEFT = re.compile(r"GPL|General Public|MPL|Mozilla|EPL|Eclipse|EUPL|CDDL|OSL-|CC-BY-SA|CC-BY-NC-SA|Share ?Alike")
PROPRIETARY = re.compile(r"[Pp]roprietary|NVIDIA|-NC\b|NonCommercial")
UNKNOWN = "unknown"
LONGEST = 60
"""Characters of a license's name. Some packages put the license's text into the field License, whose first line is
then its name, or a copyright notice."""
SOURCE = re.compile(r"(?:wheel:[A-Za-z0-9][\w.-]*==[\w.!+-]+/|hub:(?:datasets/)?[\w.-]+/[\w.-]+@[0-9a-f]{40})[\w./-]*")
PLACEHOLDERS = (*(f"wheel:{name}==" for name in ("a", "a-b", "n", "new", "NAME", "ladder-tiny")), "hub:org/tiny@")
"""Made-up packages and repositories in the tests of source strings."""


@dataclass(frozen=True)
class Stated:
    """What a package's metadata states about its license."""

    expression: str
    classifiers: tuple[str, ...]
    field: str

    def __str__(self) -> str:
        line, _, text = self.field.strip().partition("\n")
        named = len(line) <= LONGEST and (not text or "license" in line.lower())
        return self.expression or "; ".join(self.classifiers) or (line if named else "") or UNKNOWN

    def flag(self) -> str:
        """`copyleft`, `proprietary`, `unknown` or nothing. A plain choice (A OR B) with a permissive part is free."""
        stated = str(self)
        if stated == UNKNOWN:
            return UNKNOWN
        choices = stated.split(" OR ") if " AND " not in stated else [stated]
        for flag, pattern in (("copyleft", COPYLEFT), ("proprietary", PROPRIETARY)):
            if all(pattern.search(choice) for choice in choices):
                return flag
        return ""


def stated(expression: str | None, classifiers: list[str] | None, field: str | None) -> Stated:
    chosen = [line.removeprefix("License :: ") for line in classifiers or [] if line.startswith("License :: ")]
    names = [line.removeprefix("OSI Approved :: ") for line in chosen if line != "OSI Approved"]
    return Stated(expression or "", tuple(names), field or "")


def installed(version_of: dict[str, str]) -> dict[str, Stated]:
    """{package: what it states} of the packages that are installed as locked."""
    found = {}
    for name, version in version_of.items():
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if package.version.partition("+")[0] == version:
            fields = package.metadata
            found[name] = stated(fields["License-Expression"], fields.get_all("Classifier"), fields["License"])
    return found


def on_index(pip: Path, version_of: dict[str, str]) -> dict[str, Stated]:
    """The same of packages on the index, whose metadata pip reads. Errors: UserError with pip's last line."""
    with tempfile.TemporaryDirectory() as scratch:
        requirements, report = Path(scratch) / "requirements.txt", Path(scratch) / "report.json"
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in version_of.items()))
        quiet = ["--dry-run", "--ignore-installed", "--no-deps", "--only-binary", ":all:", "--quiet"]
        command = [str(pip), "install", *quiet, "--report", str(report), "--requirement", str(requirements)]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            raise UserError(f"{pip} install --dry-run: {(ran.stderr.strip().splitlines() or ['failed'])[-1]}")
        metadata = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    return {
        canonicalize_name(item["name"]): stated(
            item.get("license_expression"), item.get("classifier"), item.get("license")
        )
        for item in metadata
    }


def used_sources(root: Path = ROOT) -> list[str]:
    """Every wheel's member and hub repository that params.yaml, a recipe or a test names, sorted."""
    files = [root / "params.yaml", *(root / "recipes").glob("*.yaml"), *(root / "tests").rglob("*.py")]
    named = {found for path in files for found in SOURCE.findall(path.read_text(encoding="utf-8"))}
    return sorted(found for found in named if not found.startswith(PLACEHOLDERS))


def shipped(root: Path = ROOT) -> list[str]:
    """Every tracked data file, sorted."""
    listed = subprocess.run(
        ["git", "ls-files", "data", "prompts", "tests/cases"], cwd=root, capture_output=True, text=True
    )
    return sorted(listed.stdout.splitlines())


def plain(source: str) -> str:
    """A source string without its version or commit; a path as it is."""
    found = parse(source)
    if found.kind == "path":
        return source
    repository = "datasets/" if found.repository == "dataset" else ""
    return f"{found.kind}:{repository}{found.name}" + (f"/{found.file}" if found.file else "")


def covers(entry: dict[str, object], source: str) -> bool:
    """Whether a data set of supply/data.yaml is what a source string or a tracked path names."""
    prefixes = entry["sources"]
    assert isinstance(prefixes, list)
    name = plain(source)
    return any(name == prefix or name.startswith(f"{prefix}/") for prefix in prefixes)


def data_sets() -> list[dict[str, object]]:
    return list(YAML(typ="safe").load(DATA.read_text(encoding="utf-8")))


def package_rows(found: dict[str, Stated]) -> Iterator[str]:
    for file, version_of in locked().items():
        for name, version in version_of.items():
            yield f"| {name} | {version} | {file} | {found[name]} | {found[name].flag()} |"


def data_rows() -> Iterator[str]:
    sources = [*used_sources(), *shipped()]
    for entry in data_sets():
        if not any(covers(entry, source) for source in sources):
            raise UserError(f"supply/data.yaml: {entry['name']}: expected a source that is used, got none. Remove it.")
        text = Stated(str(entry["license"]), (), "")
        flag = text.flag() if "stated" not in str(text) else UNKNOWN
        where = "<br>".join(f"`{prefix}`" for prefix in entry["sources"])  # type: ignore[attr-defined]
        cells = [entry["name"], entry["what"], entry["used"], text, flag, entry.get("note", ""), where]
        yield f"| {' | '.join(map(str, cells))} |"
    if missing := [source for source in sources if not any(covers(entry, source) for entry in data_sets())]:
        raise UserError(f"supply/data.yaml: {missing[0]}: expected a data set with this source, got none. Add it.")


PAGE_TEXT = """\
# Licenses

Written by `make licenses`; do not edit. Licenses are what the makers state, not legal advice: package metadata for
packages, supply/data.yaml for models and data sets. `copyleft`, `proprietary` (noncommercial included) and `unknown`
are flagged; a flag means "read the license", nothing more. The ladder itself is Apache-2.0.

## Models and data sets

`used`: by default, by a recipe, by the tests only, or shipped in this repository. Nothing that is fetched is kept in
git. `source` and `task` check the SHA-256 of a wheel's member; a hub's revision is a commit.

| name | what | used | license | flag | note | source (without version) |
|---|---|---|---|---|---|---|
{data}

## Packages

{flags}.

Only `make extra-NAME` installs the packages of locks/NAME.txt, only the CUDA build of torch needs those of
locks/cuda.txt, and only `make lock` and `make licenses` use those of locks/tools.txt.

| package | version | locked in | license as stated | flag |
|---|---|---|---|---|
{packages}
"""


def page(found: dict[str, Stated]) -> str:
    counts = {
        flag: sum(license.flag() == flag for license in found.values()) for flag in ("copyleft", "proprietary", UNKNOWN)
    }
    flags = f"{len(found)} packages, of these " + ", ".join(f"{count} {flag}" for flag, count in counts.items())
    return PAGE_TEXT.format(data="\n".join(data_rows()), flags=flags, packages="\n".join(package_rows(found)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m supply.licenses", description=__doc__.splitlines()[0])
    parser.add_argument("--pip", type=Path, required=True, help="pip 23.1 or newer, to read the index's metadata")
    options = parser.parse_args()
    try:
        version_of = {name: version for pins in locked().values() for name, version in pins.items()}
        found = installed(version_of)
        found |= on_index(options.pip, {name: version_of[name] for name in version_of.keys() - found.keys()})
        PAGE.write_text(page(found), encoding="utf-8")
    except UserError as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
