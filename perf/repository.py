"""Copy of this repository in its own folder, for tests and soak tests."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COPIED = (
    "stages", "ladder", "benchmarks", "prompts", "data/raw", "data/seeds", "data/templates",
    "data/accuracy/README.md", "data/divergence/README.md", "data/heldout/README.md", "data/lm_eval/README.md",
    "data/reward/README.md",
    "dvc.yaml", "params.yaml", "links.yaml", ".gitignore", ".dvcignore",
)  # fmt: skip


def copy_repository(root: Path) -> dict[str, str]:
    """Copy the stages and their inputs to a new repository with git and DVC; return an environment to run it in."""
    for name in COPIED:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, target)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHONPATH": str(root), "PATH": path}
    for command in (("git", "init", "-q"), ("dvc", "init", "-q")):
        subprocess.run(command, cwd=root, env=environment, check=True)
    return environment
