"""List the stages of a pipeline with their commands, in an order in which they can run without DVC.

    python -m perf.steps FOLDER

This prints them as JSON. It is a separate process because DVC starts threads, and a process that forks may have none.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networkx


@dataclass(frozen=True)
class Step:
    """A stage with its command."""

    name: str
    """Name in DVC: `sft@chat`."""
    words: list[str]
    """Command after `python -m`: the module and its arguments."""
    outputs: list[str]
    needs: list[str]
    """Names of the stages whose outputs it reads."""

    @property
    def stage(self) -> str:
        return self.name.partition("@")[0]


def read_steps(root: Path) -> list[Step]:
    """Return every stage of a repository's dvc.yaml; a stage comes after those that it needs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "perf.steps", "."]  # DVC names a stage relative to the working directory
    done = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE)
    return [Step(**facts) for facts in json.loads(done.stdout)]


def above(steps: list[Step], names: Sequence[str]) -> list[Step]:
    """Return the named steps and everything they need, in order. Errors: KeyError for an unknown name."""
    by_name, wanted, waiting = {step.name: step for step in steps}, set[str](), list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += by_name[name].needs
    return [step for step in steps if step.name in wanted]


def main() -> None:
    from dvc.repo import Repo  # slow, and `read_steps` does not need it

    root = Path(sys.argv[1]).resolve()
    with Repo(str(root)) as repo:
        graph: Any = repo.index.graph
        found = [
            Step(
                stage.addressing,
                stage.cmd.split()[2:],
                [str(Path(out.fs_path).relative_to(root)) for out in stage.outs],
                [needed.addressing for needed in graph.successors(stage)],
            )
            for stage in networkx.dfs_postorder_nodes(graph)
        ]
    json.dump([vars(step) for step in found], sys.stdout)


if __name__ == "__main__":
    main()
