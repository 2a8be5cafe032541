"""A pico ladder that a test runs: a copy of this repository with a small base, small data, and its own cache."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML

from ladder.data.jsonl import Row
from ladder.pipeline.links import write_links


class Ladder:
    """Repository at `root`. `programs` is a folder that is the first of PATH: that of tests/stage_server.py."""

    def __init__(self, root: Path, programs: Path) -> None:
        self.root = root
        path = f"{programs}:{os.environ['PATH']}"
        self.env = {**os.environ, "PYTHONPATH": str(root), "PATH": path}

    def call(self, *command: str, code: int = 0) -> str:
        """Run a program; return what it prints."""
        done = subprocess.run(command, cwd=self.root, env=self.env, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def ladder(self, *words: str, code: int = 0) -> str:
        """Run a command of `ladder`; return what it prints."""
        return self.call("python", "-m", "ladder", *words, code=code)

    def repro(self, *target: str) -> list[str]:
        """Run the ladder; return the stages that ran."""
        return re.findall(r"Running stage '(.+?)':", self.call("dvc", "repro", *target))

    def change(self, edit: Callable[[Row], object]) -> None:
        """Edit params.yaml, and write links.yaml for it."""
        yaml = YAML()
        params = yaml.load((self.root / "params.yaml").read_text())
        edit(params)
        with (self.root / "params.yaml").open("w") as stream:
            yaml.dump(params, stream)
        write_links(params, self.root / "links.yaml")

    def outputs(self) -> dict[str, str]:
        """Return the hashes in dvc.lock of all models and data, by path."""
        lock = YAML(typ="safe").load((self.root / "dvc.lock").read_text())["stages"]
        outs = [out for entry in lock.values() for out in entry.get("outs", [])]
        return {out["path"]: out["md5"] for out in outs if out["path"].startswith(("models/", "data/"))}

    def cached_bytes(self) -> int:
        return sum(path.stat().st_size for path in (self.root / ".dvc/cache/files").rglob("*") if path.is_file())
