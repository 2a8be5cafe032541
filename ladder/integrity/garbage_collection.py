"""Free space in DVC's cache without losing the data of a commit or an experiment.

    ladder gc          # what would be removed
    ladder gc --yes    # remove it

This is `dvc gc --workspace --all-commits --all-experiments`. A bare `dvc gc --workspace` removes the data of every
experiment and of every older commit, and DVC collects even while a stage runs whose inputs it removes. So this command
refuses while a DVC command runs or an experiment is queued or running.
"""

from pathlib import Path
from typing import NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo

from ladder.integrity.doctor import opened, refuse_while_dvc_runs
from ladder.integrity.dvc_hashes import objects
from ladder.pipeline.stage import UserError


class Collected(NamedTuple):
    """Objects of DVC's cache that no commit, experiment or file of the workspace uses."""

    objects: int
    bytes: int
    removed: bool

    @property
    def sentence(self) -> str:
        """Description for users."""
        what = f"{self.objects} unused objects of DVC's cache, {self.bytes} bytes"
        return f"removed {what}" if self.removed else f"{what}; `ladder gc --yes` removes them"


def collect(*, yes: bool = False) -> Collected:
    """Run `ladder gc`: count the unused objects and, with `yes`, remove them.

    Errors: UserError while a DVC command runs, or an experiment is queued or running.
    """
    with opened() as repo:
        refuse_while_dvc_runs(repo)
        if (queue := repo.experiments.celery_queue) and (waiting := [*queue.iter_queued(), *queue.iter_active()]):
            names = ", ".join(entry.name or entry.stash_rev[:7] for entry in waiting)
            raise UserError(f"experiments are queued or running ({names}); wait for them, or `dvc queue kill` them")
        try:
            unused = _unused(repo)
            found = Collected(len(unused), sum(path.stat().st_size for path in unused), yes)
            if yes:
                repo.gc(workspace=True, all_commits=True, all_experiments=True, force=True)
        except DvcException as error:
            raise UserError(f"{Path.cwd()}: {' '.join(str(error).split())}") from None
    return found


def _unused(repo: Repo) -> list[Path]:
    """Files of the objects in the cache that `dvc gc` would remove."""
    used = repo.used_objs(all_commits=True, all_experiments=True)
    kept = {info.value for infos in used.values() for info in infos}
    return [path for path in objects(Path(repo.cache.local.path)) if f"{path.parent.name}{path.name}" not in kept]
