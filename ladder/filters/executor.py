"""One pass over all its shards: in this process, or by datatrove over the processes of this machine, a Slurm or a Ray
cluster.

datatrove, not Ray Data, because a task of it is a plain function with a rank, which fits a shard of a file; the same
pipeline runs on Slurm, where post-training teams have their processors, and on Ray for those on Kubernetes; and it
adds two small pure-Python packages. Ray Data would need a running cluster even on Slurm, and an order to be asked for.
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
    """Shards; each is one task."""
    workers: int = Field(ge=1)
    """Tasks at a time."""
    slurm: dict[str, Any] | None = None
    """What datatrove's SlurmPipelineExecutor takes, under its own names: partition, time, mem_per_cpu_gb ..."""
    ray: dict[str, Any] | None = None
    """The same of its RayPipelineExecutor: cpus_per_task, mem_per_cpu_gb ... Neither: processes of this machine."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.slurm is not None and self.ray is not None:
            raise ValueError("expected slurm or ray, got both")
        return self


class Cluster(Config):
    datatrove: Datatrove


Engine = Literal["local"] | Cluster


def shards(engine: Engine) -> int:
    return 1 if engine == "local" else engine.datatrove.tasks


def spread(engine: Engine) -> Callable[[Pass], None]:
    """How a pass is run over its shards. Errors: UserError when the extra is not installed."""
    if engine == "local":
        return _here
    if find_spec("datatrove") is None:
        raise UserError("engine: datatrove is not installed; `make extra-cluster` installs it")
    return partial(_there, engine.datatrove)


def _here(one: Pass) -> None:
    for number in range(len(one.shards)):
        one.run(number)


def _there(wanted: Datatrove, one: Pass) -> None:
    """datatrove's log and its marks of tasks that are done lie where they outlive a pass that fails."""
    place = hashlib.sha256(os.fsencode(one.folder.resolve())).hexdigest()[:8]  # clones may share LADDER_WORK
    log = cache() / "datatrove" / f"{one.folder.parent.name.strip('.')}-{one.folder.name}-{place}"
    shutil.rmtree(log, ignore_errors=True)
    executor = _executor(wanted, [partial(_task, one)], log)
    try:
        executor.run()
    except subprocess.CalledProcessError as error:
        raise UserError(f"engine: {' '.join(map(str, error.cmd))} ended with {error.returncode}; see {log}") from None
    if missing := executor.get_incomplete_ranks(skip_completed=True):
        raise UserError(
            f"engine: {len(missing)} of {wanted.tasks} tasks did not end, the first is {missing[0]}; see {log}"
        )


def _executor(wanted: Datatrove, pipeline: list[Any], log: Path) -> Any:
    common = {"pipeline": pipeline, "tasks": wanted.tasks, "workers": wanted.workers, "logging_dir": str(log)}
    if wanted.slurm is not None:
        from datatrove.executor import SlurmPipelineExecutor

        # --wait: sbatch returns when the job has ended, and with its exit code. DVC must not go on before.
        arguments = {**wanted.slurm, "sbatch_args": {**wanted.slurm.get("sbatch_args", {}), "wait": ""}}
        return SlurmPipelineExecutor(**common, **arguments)
    if wanted.ray is not None:
        from datatrove.executor import RayPipelineExecutor

        return RayPipelineExecutor(**common, **wanted.ray)
    from datatrove.executor import LocalPipelineExecutor

    return LocalPipelineExecutor(**common)


def _task(one: Pass, data: None, rank: int, world_size: int) -> None:
    """A task of datatrove: the pass over the shard of its rank."""
    one.run(rank)
