"""Tokens that stages generated, from the column `tokens` of the rows that they wrote."""

from typing import Any

from ladder.data.jsonl import parse_row
from ladder.integrity.dvc_hashes import folder_files
from ladder.plan.local_objects import LocalObjects
from ladder.plan.recorded import Recorded

LARGEST = 64_000_000
"""Files of rows above this many bytes are not read."""


class RowTokens:
    """Counts the tokens of recorded files; each content is read once."""

    def __init__(self, objects: LocalObjects) -> None:
        self.objects = objects
        self._known: dict[str, int | None] = {}

    def generated(self, name: str, recorded: Recorded) -> int | None:
        """Return the tokens in the rows that a stage wrote; None if it only copied the column, or has none."""
        entry = recorded.lock[name]
        for dep in entry.get("deps") or ():
            inside = [recorded.output_of(out) for out in recorded.outputs_inside(dep["path"])]
            if any(self._output(each) for each in [dep, *inside] if each["path"].startswith("data/")):
                return None
        outs = [out for out in entry.get("outs") or () if out["path"].startswith("data/")]
        return sum(count for out in outs if (count := self._output(out))) or None

    def _output(self, out: dict[str, Any]) -> int | None:
        """Return the tokens of an output; None without the column, or if it is not here."""
        path, md5 = out["path"], str(out.get("md5"))
        inner = folder_files(self.objects.cache, md5) if md5.endswith(".dir") else {}
        files = {f"{path}/{name}": each for name, each in inner.items()} or {path: md5}
        return sum(count for file, each in files.items() if (count := self._file(file, each))) or None

    def _file(self, path: str, md5: str) -> int | None:
        if md5 not in self._known:
            self._known[md5] = self._counted(path, md5)
        return self._known[md5]

    def _counted(self, path: str, md5: str) -> int | None:
        place = self.objects.path(path, md5) if path.endswith(".jsonl") else None
        if place is None or place.stat().st_size > LARGEST:
            return None
        total = 0
        with place.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                count = parse_row(line, f"{path}:{number}").get("tokens")
                if isinstance(count, bool) or not isinstance(count, int | list):
                    return None
                total += sum(count) if isinstance(count, list) else count
        return total
