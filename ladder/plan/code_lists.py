"""Which code changed since the last run: the lists that the stage `code` would write now, against those in dvc.lock."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ladder.integrity.dvc_hashes import folder_files, listing_md5, object_path, output_md5
from ladder.pipeline.code_text import essence
from ladder.pipeline.imports import imported, read_imports

CODE = "code"
"""The stage that writes code lists, and their folder."""


@dataclass
class CodeLists:
    """Code lists as of now, compared with those of the last run."""

    entry: dict[str, Any]
    """Entry of the stage `code` in dvc.lock."""
    folders: list[Path]
    """Folders of code that the stage reads."""
    cache: Path
    """Folder of DVC's cached objects."""

    def changed_in(self, path: str, before: str) -> list[str]:
        """Return the changed files of the list at `path`; `before` is its md5 in dvc.lock. Empty if it is the same.

        One text in place of files: if no module has this list, or if the list of the last run is not here.
        """
        now = self._recorded_now(path) if self._same else self._md5_now(path)
        if now == before or (now is None and self._same):
            return []
        if now is None:
            return [f"no module for {path}"]
        if now.endswith(".dir"):
            return [f"lists in {path} changed"]
        text = self._recorded(path, now) if self._same else self._now[path]
        changed = _changed_lines(self._recorded(path, before), text) if text is not None else []
        return changed or ["files that it imports changed"]

    def changed(self) -> list[str]:
        """Return the files of code that differ from the last run's lists; the folders that differ if unknown."""
        if self._same:
            return []
        names = set()
        for path, text in self._now.items():
            recorded = self._here.get(path)
            names |= set(_changed_lines(recorded, text)) if recorded is not None else set()
        return sorted(names) or [path for path, md5 in self._recorded_folders.items() if output_md5(Path(path)) != md5]

    @cached_property
    def _now(self) -> dict[str, str]:
        """Text of every code list, as the stage `code` would write it."""
        imports = read_imports(self.folders)
        hashes = {path: hashlib.sha256(essence(path)).hexdigest() for path in imports}
        lists = {}
        for folder, prefix in ((Path("stages"), CODE), (Path("benchmarks"), f"{CODE}/benchmarks")):
            for module in folder.glob("[!_]*.py"):
                files = sorted(imported(module, imports) & hashes.keys())  # as stages/code.py does
                lists[f"{prefix}/{module.stem}.txt"] = "".join(f"{hashes[path]}  {path}\n" for path in files)
        return lists

    def _md5_now(self, path: str) -> str | None:
        """Return the hash of a code list, or of a folder of them, as stage `code` would write it; None if unknown."""
        return _md5_of({name: hashlib.md5(text.encode()).hexdigest() for name, text in self._now.items()}, path)

    def _recorded_now(self, path: str) -> str | None:
        """Return the hash of a code list, or of a folder of them, as the stage `code` wrote it; None if unknown."""
        recorded = (self.entry.get("outs") or [{}])[0].get("md5", "")
        listed = folder_files(self.cache, recorded)
        return _md5_of({f"{CODE}/{name}": md5 for name, md5 in listed.items()}, path)

    @cached_property
    def _here(self) -> dict[str, str]:
        return {str(path): path.read_text(encoding="utf-8") for path in Path(CODE).rglob("*.txt")}

    @property
    def _recorded_folders(self) -> dict[str, str | None]:
        """md5 of each folder of code in dvc.lock."""
        return {dep["path"]: dep.get("md5") for dep in self.entry.get("deps") or () if Path(dep["path"]).is_dir()}

    @cached_property
    def _same(self) -> bool:
        """Whether the folders of code have the hashes of dvc.lock, so that no list can differ."""
        recorded = self._recorded_folders
        return bool(recorded) and all(output_md5(Path(path)) == md5 for path, md5 in recorded.items())

    def _recorded(self, path: str, before: str) -> str | None:
        """Return the code list of the last run, from the file here or from the cache; None if it is in neither."""
        for place in (Path(path), object_path(self.cache, before)):
            if place.is_file() and hashlib.md5(place.read_bytes()).hexdigest() == before:
                return place.read_text(encoding="utf-8")
        return None


def _md5_of(files: dict[str, str], path: str) -> str | None:
    """Return the hash of a file, or of a folder, among {path: MD5}; None if there is neither."""
    inside = {name.removeprefix(f"{path}/"): md5 for name, md5 in files.items() if name.startswith(f"{path}/")}
    return files.get(path) or (listing_md5(inside) if inside else None)


def _changed_lines(before: str | None, now: str) -> list[str]:
    """Return the paths whose lines differ between two code lists."""
    if before is None:
        return []
    old, new = set(before.splitlines()), set(now.splitlines())
    return sorted({line.partition("  ")[2] or line for line in old ^ new})
