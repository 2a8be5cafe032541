"""Run one pass over all its shards: in this process, or with datatrove on this machine, Slurm or Ray.

datatrove was preferred to Ray Data for three reasons. A datatrove task is a plain function with a rank, which fits a
shard of a file. The same pipeline runs on Slurm, where post-training teams have their processors, and on Ray for teams
on Kubernetes. It adds only two small pure-Python packages. Ray Data would need a running cluster even on Slurm, and
must be asked explicitly to preserve the order of rows.
"""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ladder.filters.passes import Pass
from ladder.pipeline.launch import cache
from ladder.pipeline.stage import Config, UserError


class Datatrove(Config):
    """Filters over shards by datatrove (`make extra-cluster`); the rows come out as those of `local` do."""

    tasks: int = Field(ge=1)
    """Number of shards; each is one task."""
    workers: int = Field(ge=1)
    """Maximum number of concurrent tasks."""
    slurm: dict[str, Any] | None = None
    """Arguments of datatrove's SlurmPipelineExecutor under their own names: partition, time, mem_per_cpu_gb ..."""
    ray: dict[str, Any] | None = None
    """Arguments of datatrove's RayPipelineExecutor: cpus_per_task, mem_per_cpu_gb ...

    Without `slurm` and `ray`, tasks are processes of this machine.
    """

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.slurm is not None and self.ray is not None:
            raise ValueError("expected slurm or ray, got both")
        return self


class Cluster(Config):
    datatrove: Datatrove
    """Number of shards and workers, and where they run."""


Engine = Literal["local"] | Cluster


def shards(engine: Engine) -> int:
    """Number of shards, and so of tasks, for an engine."""
    return 1 if engine == "local" else engine.datatrove.tasks


def spread(engine: Engine) -> Callable[[Pass], None]:
    """Return the function that runs a pass over its shards. Errors: UserError when datatrove is not installed."""
    if engine == "local":
        return _here
    if find_spec("datatrove") is None:
        raise UserError("engine: datatrove is not installed. `make extra-cluster` installs it.")
    return partial(_there, engine.datatrove)


def _here(one: Pass) -> None:
    for number in range(len(one.shards)):
        one.run(number)


def _there(wanted: Datatrove, one: Pass) -> None:
    """Run a pass with datatrove. Its logs and completion markers survive a failed pass in ${LADDER_WORK}/datatrove."""
    place = hashlib.sha256(os.fsencode(one.folder.resolve())).hexdigest()[:8]  # clones may share LADDER_WORK
    log = cache() / "datatrove" / f"{one.folder.parent.name.strip('.')}-{one.folder.name}-{place}"
    shutil.rmtree(log, ignore_errors=True)
    executor = _executor(wanted, [partial(_task, one)], log)
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise UserError(f"engine: {' '.join(map(str, error.cmd))} ended with {error.returncode}. See {log}.") from None
    if missing := executor.get_incomplete_ranks(skip_completed=True):
        raise UserError(f"engine: {len(missing)} of {wanted.tasks} tasks did not end, first {missing[0]}. See {log}.")


def _executor(wanted: Datatrove, pipeline: list[Any], log: Path) -> Any:
    common = {"pipeline": pipeline, "tasks": wanted.tasks, "workers": wanted.workers, "logging_dir": str(log)}
    if wanted.slurm is not None:
        from datatrove.executor import SlurmPipelineExecutor

        # --wait: sbatch returns when the job ends, with the job's exit code. DVC must not continue before.
        arguments = {**wanted.slurm, "sbatch_args": {**wanted.slurm.get("sbatch_args", {}), "wait": ""}}
        return SlurmPipelineExecutor(**common, **arguments)
    if wanted.ray is not None:
        from datatrove.executor import RayPipelineExecutor

        return RayPipelineExecutor(**common, **wanted.ray)
    from datatrove.executor import LocalPipelineExecutor

    return LocalPipelineExecutor(**common)


def _task(one: Pass, data: None, rank: int, world_size: int) -> None:
    """Datatrove task: the pass over the shard with the task's rank."""
    one.run(rank)
