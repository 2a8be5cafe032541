"""Free space in DVC's cache without losing the data of a commit or an experiment.

    python -m ladder gc          # what would be removed
    python -m ladder gc --yes    # remove it

This is `dvc gc --workspace --all-commits --all-experiments`. A bare `dvc gc --workspace` removes the data of every
experiment and of every older commit, and DVC collects even while a stage runs whose inputs it removes. So this command
refuses while a DVC command runs or an experiment is queued or running.
"""

import argparse
import subprocess
import sys

from dvc.repo import Repo

from ladder.integrity.doctor import refuse_while_dvc_runs
from ladder.pipeline.stage import UserError

COMMAND = ["dvc", "gc", "--workspace", "--all-commits", "--all-experiments"]


def collect(arguments: list[str]) -> None:
    """Run `ladder gc`. Errors: UserError while a DVC command runs, or an experiment is queued or running."""
    parser = argparse.ArgumentParser(
        prog="python -m ladder gc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--yes", action="store_true", help="remove the objects; without it, only count them")
    options = parser.parse_args(arguments)
    with Repo() as repo:
        refuse_while_dvc_runs(repo)
        if (queue := repo.experiments.celery_queue) and (waiting := [*queue.iter_queued(), *queue.iter_active()]):
            names = ", ".join(entry.name or entry.stash_rev[:7] for entry in waiting)
            raise UserError(f"experiments are queued or running ({names}). Wait for them, or `dvc queue kill` them.")
    done = subprocess.run([*COMMAND, "--force" if options.yes else "--dry"], check=False)
    if done.returncode:
        sys.exit(done.returncode)
