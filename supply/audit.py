"""Known vulnerabilities of the locked packages, from a downloaded OSV database; reads nothing from the network.

python -m supply.audit all.zip [--accept GHSA-xxxx-xxxx-xxxx]

The database is OSV's export for PyPI (https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip) or a folder of
its JSON files (https://ossf.github.io/osv-schema/). Every pin of constraints.txt and locks/ is compared with the
versions and the ECOSYSTEM ranges of every advisory that is not withdrawn. Exit status: 0 for no advisory, 1 for any,
2 for a database that cannot be read.

What it cannot know: advisories newer than the database, flaws without an advisory, libraries that a wheel bundles
(OpenSSL, CUDA), whether the ladder uses the vulnerable code, and advisories that give git commits alone. Packages that
are only read as data (`wheel:` sources) are not audited: nothing of them is installed or run.
"""

import argparse
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ValidationError

from ladder.pipeline.errors import expectation
from ladder.pipeline.stage import UserError
from supply.lock import locked

EXPECTED = "expected OSV's all.zip of PyPI, or a folder of its records"


class Package(BaseModel):
    ecosystem: str = ""
    name: str = ""


class Event(BaseModel):
    """One of the four is set. `introduced: "0"` is before every version."""

    introduced: str | None = None
    fixed: str | None = None
    last_affected: str | None = None
    limit: str | None = None


class Range(BaseModel):
    type: str
    events: list[Event]


class Affected(BaseModel):
    package: Package = Package()
    ranges: list[Range] = []
    versions: list[str] = []


class Advisory(BaseModel):
    """An OSV record, as far as it is read here."""

    id: str
    modified: str = ""
    withdrawn: str | None = None
    aliases: list[str] | None = None
    summary: str = ""
    details: str = ""
    affected: list[Affected] | None = None

    def of_packages(self) -> dict[str, list[Affected]]:
        """{canonical name: entries} of the packages on PyPI."""
        found: dict[str, list[Affected]] = {}
        for entry in self.affected or []:
            if entry.package.ecosystem == "PyPI":
                found.setdefault(canonicalize_name(entry.package.name), []).append(entry)
        return found


@dataclass(frozen=True)
class Finding:
    """An advisory that a pin matches; `fixed` are the versions that its ranges name as fixed."""

    package: str
    version: str
    file: str
    advisory: str
    aliases: tuple[str, ...]
    fixed: tuple[str, ...]
    summary: str


def advisories(database: Path) -> Iterator[Advisory]:
    """The records of a zip's or folder's JSON files. Errors: UserError naming a file that is not an OSV record."""
    for place, text in json_files(database):
        try:
            yield Advisory.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise UserError(
                f"{place}: {where}: {expectation(first['msg'])}; not an OSV record. Download it again."
            ) from None


def json_files(database: Path) -> Iterator[tuple[str, bytes]]:
    """(place, content) of each JSON file. Errors: UserError if it is neither a folder nor a zip file."""
    if database.is_dir():
        yield from ((path.as_posix(), path.read_bytes()) for path in sorted(database.rglob("*.json")))
        return
    try:
        with zipfile.ZipFile(database) as archive:
            for name in sorted(name for name in archive.namelist() if name.endswith(".json")):
                yield f"{database}/{name}", archive.read(name)
    except FileNotFoundError:
        raise UserError(f"{database}: no such file or folder; {EXPECTED}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise UserError(f"{database}: not a readable zip file ({error}); {EXPECTED}. Download it again.") from None


def in_range(version: Version, events: list[Event]) -> bool:
    """Whether an ECOSYSTEM range holds a version, by the algorithm of the OSV schema.

    Errors: InvalidVersion for an event that is not a PEP 440 version.
    """
    limits = [event.limit for event in events if event.limit is not None]
    if limits and not any(limit == "*" or version < Version(limit) for limit in limits):
        return False
    affected = any(event.introduced == "0" for event in events)
    points = []
    for event in events:
        for kind in ("introduced", "fixed", "last_affected"):
            at = getattr(event, kind)
            if at is not None and (kind, at) != ("introduced", "0"):
                points.append((Version(at), kind))
    for point, kind in sorted(points, key=lambda item: item[0]):
        if kind == "introduced" and version >= point:
            affected = True
        elif kind == "fixed" and version >= point or kind == "last_affected" and version > point:
            affected = False
    return affected


def same(text: str, version: Version) -> bool:
    """Whether a listed version is this one: 1.0 is 1.0.0. Old uploads have names that are no versions; no pin has."""
    try:
        return Version(text) == version
    except InvalidVersion:
        return False


def matches(affected: Affected, version: Version) -> bool:
    """Whether one `affected` entry holds a version. An ECOSYSTEM range that PEP 440 cannot order counts as a match."""
    if any(same(text, version) for text in affected.versions):
        return True
    try:
        return any(in_range(version, found.events) for found in affected.ranges if found.type == "ECOSYSTEM")
    except InvalidVersion:
        return True


def audit(records: Iterable[Advisory], pins: dict[str, dict[str, str]]) -> tuple[list[Finding], str]:
    """(what matches, sorted by package; the newest `modified` of the records).

    pins: {requirement file: {canonical name: version}}. Errors: UserError for a database without a record of PyPI.
    """
    found: list[Finding] = []
    newest, known = "", False
    for record in records:
        of_packages = record.of_packages()
        known = known or bool(of_packages)
        newest = max(newest, record.modified)
        if record.withdrawn:
            continue
        for file, version_of in pins.items():
            for name in of_packages.keys() & version_of.keys():
                version, entries = version_of[name], of_packages[name]
                if any(matches(entry, Version(version)) for entry in entries):
                    found.append(finding(record, entries, name, version, file))
    if not known:
        raise UserError(f"no advisory of PyPI in the database; {EXPECTED}")
    return sorted(found, key=lambda item: (item.package, item.advisory, item.file)), newest


def finding(record: Advisory, entries: list[Affected], name: str, version: str, file: str) -> Finding:
    events = [event for entry in entries for found in entry.ranges for event in found.events]
    fixed = tuple(dict.fromkeys(event.fixed for event in events if event.fixed))
    summary = " ".join((record.summary or record.details).split())[:100]
    return Finding(name, version, file, record.id, tuple(record.aliases or ()), fixed, summary)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m supply.audit", description=__doc__.splitlines()[0])
    parser.add_argument("database", type=Path, help="OSV's all.zip of PyPI, or a folder of its records")
    parser.add_argument("--accept", action="append", default=[], metavar="ID", help="an advisory, or alias, to accept")
    options = parser.parse_args()
    try:
        found, newest = audit(advisories(options.database), locked())
    except UserError as refused:
        print(refused, file=sys.stderr)
        return 2
    accepted = set(options.accept)
    left = [item for item in found if not accepted & {item.advisory, *item.aliases}]
    for item in left:
        names = " ".join((item.advisory, *item.aliases))
        fix = f"fixed in {', '.join(item.fixed)}" if item.fixed else "no fixed version"
        print(f"{item.file}: {item.package}=={item.version}: {names}: {item.summary} ({fix})")
    print(
        f"{len(left)} advisories match, {len(found) - len(left)} accepted; newest record of {newest or 'unknown date'}"
    )
    return bool(left)


if __name__ == "__main__":
    sys.exit(main())
