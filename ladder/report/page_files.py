"""Files of a revision for the page of `ladder report`, with a record of those that are absent."""

import subprocess
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from ladder.data.jsonl import Row, parse_row
from ladder.data.strict_json import parse_json
from ladder.eval.revisions import LOCK, WORKSPACE, Missing, Revision
from ladder.pipeline.errors import UserError


class Files(Revision):
    """Files of a revision, by path.

    The workspace is read from disk alone: a file that was not pulled is absent. Another revision is read from git, from
    DVC's cache and from its remote. Absent files that dvc.lock records are counted in `missing`.
    """

    def __init__(self, name: str | None) -> None:
        super().__init__(None if name == WORKSPACE else name)
        self._absent: Counter[str] = Counter()
        self._older: list[str] = []

    @property
    def title(self) -> str:
        """Label with the commit: "v1 (214eadc)", "workspace (on 214eadc)"."""
        if self.commit:
            return self.label if self.commit.startswith(self.label) else f"{self.label} ({self.commit[:7]})"
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
        return f"{self.label} (on {done.stdout.strip()})" if done.returncode == 0 else self.label

    def paths(self, folder: str, suffix: str) -> list[str]:
        """Return the recorded and present files of a folder with this suffix, sorted."""
        found = {path for path in self._outputs() if path.startswith(f"{folder}/") and path.endswith(suffix)}
        if self.commit is None:
            found |= {path.as_posix() for path in Path(folder).rglob(f"*{suffix}") if path.is_file()}
        return sorted(found)

    def read(self, path: str) -> str | None:
        """Return the text of a file; None if it is absent. Errors: UserError if its bytes differ from dvc.lock."""
        found = self._present(path)
        if found is None and self._is_output(path):
            folder, parts = PurePosixPath(path).parent, PurePosixPath(path).parts
            self._absent["/".join(parts[:2]) if len(parts) > 2 else str(folder)] += 1
        return found

    def json(self, path: str, kind: type) -> Any:
        """Return the content of a JSON file; None if it is absent. Errors: UserError if it is not a `kind` in JSON."""
        text = self.read(path)
        if text is None:
            return None
        try:
            content = parse_json(text)
        except ValueError as error:
            raise UserError(f"{path} at {self.label}: not JSON: {error}; expected the file of a stage") from None
        if not isinstance(content, kind):
            raise UserError(f"{path} at {self.label}: expected a JSON {kind.__name__}, got {type(content).__name__}")
        return content

    def lines(self, path: str) -> list[Row] | None:
        """Return the rows of a JSON Lines file; None if it is absent. Errors: UserError with file and line."""
        text = self.read(path)
        if text is None:
            return None
        lines = enumerate(text.encode().splitlines(), start=1)
        return [parse_row(line, f"{path}:{number}") for number, line in lines if line.strip()]

    def has(self, path: str) -> bool:
        """Whether a file is in the workspace, or is itself an output that dvc.lock records."""
        return path in self._outputs() or self.commit is None and Path(path).is_file()

    def skip(self, path: str) -> None:
        """Record a file of a form that stages no longer write; the page leaves it out."""
        self._older.append(path)

    @property
    def missing(self) -> list[str]:
        """Sentences about the absent files, with the command that brings them, and about those that were skipped."""
        found = []
        if self._absent:
            way = "dvc pull" if self.commit is None else "dvc fetch --all-commits"
            where = "not pulled" if self.commit is None else "neither in DVC's cache nor in its remote"
            folders = ", ".join(f"{folder} ({count})" for folder, count in sorted(self._absent.items()))
            found.append(f"{self.label}: files {where}: {folders}. Run `{way}`, then `ladder report` again.")
        if self._older:
            more = f" and {len(self._older) - 1} more" if self._older[1:] else ""
            found.append(f"{self.label}: files in a form that is no longer written: {self._older[0]}{more}. Left out.")
        return found

    def _present(self, path: str) -> str | None:
        if self.commit is None:
            return Path(path).read_text(encoding="utf-8") if Path(path).is_file() else None
        if (text := self.text(path)) is not None or not self._is_output(path):
            return text
        try:
            return self._content(path).decode("utf-8")
        except Missing:
            return None

    def _outputs(self) -> set[str]:
        """Return the outputs in dvc.lock; empty for a workspace without it."""
        return set(self._recorded) if self.commit or Path(LOCK).is_file() else set()

    def _is_output(self, path: str) -> bool:
        return not self._outputs().isdisjoint([path, *map(str, PurePosixPath(path).parents)])
