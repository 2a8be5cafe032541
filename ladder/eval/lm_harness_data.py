"""Pin the data of lm-eval's tasks: a data set of the Hub is read at a stated commit or not at all.

lm-eval's tasks name Hub data sets without a revision. A metric that lm-eval lacks is code that it downloads from the
Hub and runs. Both are refused before anything is fetched. The few tasks whose own Python code does not fetch with
`datasets.load_dataset` are not covered.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ladder.data.download import COMMIT
from ladder.pipeline.stage import UserError


@contextlib.contextmanager
def pinned(task: str, revisions: dict[str, str]) -> Iterator[None]:
    """Context manager in which `datasets.load_dataset` reads the Hub only at these commits, {repository: commit}.

    Errors: UserError for a data set without a commit, and for a metric of the Hub.
    """
    import datasets
    import evaluate

    found: list[UserError] = []  # lm-eval turns every error of a metric into a log line

    def metric(name: str, *_: Any, **__: Any) -> Any:
        found.append(
            UserError(
                f"lm-eval task {task}: metric {name!r} is code from the hub, which never runs. Use a metric of lm-eval."
            )
        )
        raise found[-1]

    read, load = datasets.load_dataset, evaluate.load
    datasets.load_dataset = functools.partial(_load, read, task, revisions)
    evaluate.load = metric
    try:
        yield
    finally:
        datasets.load_dataset, evaluate.load = read, load
    if found:
        raise found[0]


def _load(read: Callable[..., Any], task: str, revisions: dict[str, str], path: str, *args: Any, **kwargs: Any) -> Any:
    if "://" in str(kwargs.get("data_files")):
        raise UserError(
            f"lm-eval task {task}: dataset_kwargs.data_files: expected local files, got "
            f"{kwargs['data_files']!r}. Download them and keep them with DVC."
        )
    if _is_local(path):
        return read(path, *args, **kwargs)
    commit = kwargs.pop("revision", None) or revisions.get(path)
    if COMMIT.fullmatch(commit or "") is None:
        raise UserError(
            f"lm-eval task {task}: revisions.{path}: expected a commit of 40 hex digits, which pins the data, "
            f"got {commit!r}. `git ls-remote https://huggingface.co/datasets/{path} HEAD` prints it; or "
            "`config` can name local files: {dataset_path: json, dataset_name: null, "
            "dataset_kwargs: {data_files: {test: FILE}}}"
        )
    return read(path, *args, revision=commit, **kwargs)


def _is_local(path: str) -> bool:
    """Whether the path is a builder (`json`) or a local folder."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return path in _PACKAGED_DATASETS_MODULES or Path(path).exists()
