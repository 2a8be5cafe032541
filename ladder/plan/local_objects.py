"""Contents that dvc.lock records, where they are here: in DVC's cache, or as the same file in the workspace."""

from functools import cached_property
from pathlib import Path
from typing import Any

from ladder.integrity.dvc_hashes import is_cached, md5, object_path
from ladder.plan.changes import cache_folder


class LocalObjects:
    """Reads contents by their path and MD5, so that a changed file is never taken for the recorded one."""

    @cached_property
    def cache(self) -> Path:
        """Folder of DVC's cached objects."""
        return cache_folder()

    def path(self, path: str, found: str | None) -> Path | None:
        """Return a file with the recorded content; None if it is not here."""
        if not found or found.endswith(".dir"):
            return None
        if (cached := object_path(self.cache, found)).is_file():
            return cached
        return Path(path) if Path(path).is_file() and md5(Path(path)) == found else None

    def text(self, path: str, found: str | None) -> str | None:
        """Return the recorded text of a file; None if it is not here."""
        place = self.path(path, found)
        return None if place is None else place.read_text(encoding="utf-8")

    def rows(self, path: str, found: str | None) -> int | None:
        """Return the number of rows of a recorded JSON Lines file; None if it is not here."""
        place = self.path(path, found)
        if place is None:
            return None
        with place.open("rb") as stream:
            return sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))

    def is_cached(self, out: dict[str, Any]) -> bool:
        """Return whether the cache has an output of dvc.lock."""
        return bool(out.get("md5")) and is_cached(self.cache, out["md5"])
