"""Run any task of lm-eval by its Python API on a loaded model (Gao et al., lm-evaluation-harness).

lm-eval generates and scores in one step, so its tasks are not split into answers and scores as our benchmarks are. The
result has the same form: measures, and one row per document with its prompt, the model's answer and its metrics.
"""

import difflib
import functools
import inspect
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import Field, field_validator

from ladder.data.jsonl import Row, write_json
from ladder.eval.benchmark import Benchmark
from ladder.eval.lm_harness_data import pinned
from ladder.eval.measure import Measure
from ladder.eval.scores import Resampling
from ladder.models.checkpoint import Model
from ladder.pipeline.stage import UserError
from ladder.verifiers.reasoning import closing_token

if TYPE_CHECKING:
    from lm_eval.tasks import TaskManager

# Arguments of simple_evaluate that `options` may not set. OURS are set here. CLOSED are refused:
# confirm_run_unsafe_code would run a model's code with the user's rights.
OURS = {"model", "model_args", "tasks", "task_manager", "batch_size", "log_samples", "bootstrap_iters", "device"}
UNBOXED = "lm-eval task {} runs a model's code with your rights; benchmarks humaneval and mbpp run it in a sandbox"
CLOSED = {"confirm_run_unsafe_code", "use_cache", "evaluation_tracker", "predict_only"}


class Harness(Resampling):
    """How a task of lm-eval's is run."""

    options: dict[str, Any] = {}
    """Arguments of lm_eval.simple_evaluate by their own names: num_fewshot, limit, apply_chat_template, gen_kwargs."""
    config: dict[str, Any] = {}
    """Keys that replace keys of the task's YAML. For local data: {dataset_path: json, dataset_name: null,
    dataset_kwargs: {data_files: {test: data/raw/arc.jsonl}}}."""
    revisions: dict[str, str] = Field({}, exclude_if=lambda revisions: not revisions)
    """Commits of the data sets that the task reads from the Hub: {allenai/ai2_arc: COMMIT}, required for each."""
    include_path: Path | None = None
    """Folder of further task YAML files in data/raw, for tasks that lm-eval does not ship."""
    batch_size: int = Field(16, ge=1)
    """Number of requests per forward pass."""

    @field_validator("options")
    @classmethod
    def named(cls, options: dict[str, Any]) -> dict[str, Any]:
        """Check that `options` are arguments of simple_evaluate that may be set."""
        from lm_eval import simple_evaluate  # the import takes seconds

        names = set(inspect.signature(simple_evaluate).parameters) - OURS - CLOSED
        if strangers := sorted(set(options) - names):
            raise ValueError(
                f"expected arguments of lm_eval.simple_evaluate ({', '.join(sorted(names))}), "
                f"got {', '.join(strangers)}"
            )
        return options


class Evaluated(NamedTuple):
    benchmark: Benchmark
    """Measures of the task."""
    rows: list[Row]
    """One row per document."""
    reported: dict[str, float]
    """lm-eval's own numbers by metric."""
    documents: int
    """Number of documents of the task; `limit` asks fewer."""


def evaluate(model: Model, task: str, params: Harness) -> Evaluated:
    """Run a task or a group of tasks.

    A metric becomes a measure when its mean over rows is the number that lm-eval reports. A metric that is aggregated
    otherwise (perplexity, corpus BLEU, an unweighted mean of subtasks) is only in `reported`. The first measure is the
    headline.
    The model must be complete: ladder.models.checkpoint.load_complete.
    Errors: UserError for an unknown task, a tag, code that would run without a sandbox, data without a commit, data
    that is not available, and a task without any measure.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    manager = _manager(params.include_path)
    asked = HFLM(
        pretrained=model.model,
        tokenizer=model.tokenizer,
        batch_size=params.batch_size,
        think_end_token=closing_token(model.tokenizer.get_vocab()),
    )
    with pinned(task, params.revisions):
        tasks = _tasks(manager, task, params.config)
        found = simple_evaluate(model=asked, tasks=tasks, task_manager=manager, bootstrap_iters=0, **params.options)
    reported = {name: float(value) for name, value in found["results"][task].items() if "," in name and _number(value)}
    rows = [row for name, samples in found["samples"].items() for row in _rows(name, samples)]
    measures = _measures(task, rows, reported, found["higher_is_better"][task])
    if not measures:
        raise UserError(
            f"lm-eval task {task}: none of {', '.join(reported)} is a mean over documents; nothing to compare"
        )
    for row in rows:
        row["measures"] = {name: [row["metrics"].get(name, 0.0), float(name in row["metrics"])] for name in measures}
    headline = (next(iter(measures)),)
    measured = Benchmark(task, measures, headline, _unasked, _unasked, {}, ("lm_eval",), _unasked, _unasked)
    documents = sum(found["n-samples"][name]["original"] for name in found["samples"])
    return Evaluated(measured, rows, reported, documents)


@functools.cache  # reading thousands of YAML files is slow
def _manager(include_path: Path | None) -> "TaskManager":
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(include_path) if include_path else None)


def _tasks(manager: "TaskManager", task: str, config: dict[str, Any]) -> list[Any]:
    """Load a task with its data."""
    if task not in manager.all_tasks:
        near = ", ".join(difflib.get_close_matches(task, manager.all_tasks, n=3, cutoff=0))
        raise UserError(f"lm-eval has no task {task!r}; closest names: {near}")
    if task.startswith(("humaneval", "mbpp")):  # they fetch their metric from the Hub before UNSAFE_CODE can be read
        raise UserError(UNBOXED.format(task))
    if task in manager.all_tags:
        raise UserError(f"lm-eval task {task!r}: a tag has no score of its own. Name one of its tasks.")
    try:
        with tempfile.TemporaryDirectory() as folder:
            loaded = manager.load([_replaced(manager, task, config, Path(folder)) if config else task])
    except (ConnectionError, FileNotFoundError) as error:
        raise UserError(
            f"lm-eval task {task}: cannot load its data: {' '.join(str(error).split())[:200]}. `config` can name "
            "local files: {dataset_path: json, dataset_name: null, dataset_kwargs: {data_files: {test: FILE}}}."
        ) from None
    for name, item in loaded["tasks"].items():
        if getattr(item, "UNSAFE_CODE", False):
            raise UserError(UNBOXED.format(name))
    return list(loaded["groups"].values()) if task in loaded["groups"] else list(loaded["tasks"].values())


def _replaced(manager: "TaskManager", task: str, config: dict[str, Any], folder: Path) -> str:
    """Write a YAML file that includes the task's own and replaces some of its keys; return its path.

    lm-eval 0.4.13 takes a dict of keys for the whole task, so a file is needed.
    """
    entry = manager.task_index[task]
    if task in manager.all_groups or entry.yaml_path is None:
        raise UserError(f"lm-eval task {task}: `config` replaces keys of a single task's YAML, which this is not")
    file = folder / "task.yaml"
    write_json(file, {"include": str(entry.yaml_path), **config, "task": task})
    return str(file)


def _rows(task: str, samples: list[Row]) -> list[Row]:
    """Build one row per document; `metrics` has lm-eval's names with the filter: "exact_match,strict-match"."""
    rows: dict[int, Row] = {}
    for sample in samples:
        row = rows.setdefault(sample["doc_id"], _row(task, sample))
        for name in sample["metrics"]:
            if _number(sample[name]):
                row["metrics"][f"{name},{sample['filter']}"] = float(sample[name])
    return list(rows.values())


def _row(task: str, sample: Row) -> Row:
    return {
        "key": f"{task}/{sample['doc_id']}",
        "group": task,
        "metrics": {},
        "prompt": str(sample["arguments"][0][0]),
        "target": str(sample["target"]),
        "follow_ups": [],
        "responses": [[text] for text in _answers(sample)],
        "tokens": [],
        "finished": [],
    }


def _answers(sample: Row) -> list[str]:
    """Return the model's text per sample: for choices, the most likely one; for a text that is only scored, ""."""
    first = sample["resps"][0][0]
    if isinstance(first, str):
        return list(sample["resps"][0])
    if len(sample["arguments"]) < 2:
        return [""]
    likeliest = max(range(len(sample["resps"])), key=lambda index: sample["resps"][index][0][0])
    return [sample["arguments"][likeliest][1].strip()]


def _measures(
    task: str, rows: list[Row], reported: dict[str, float], better: dict[str, bool | None]
) -> dict[str, Measure]:
    measures = {}
    for name, total in reported.items():
        values = [row["metrics"][name] for row in rows if name in row["metrics"]]
        if not values or abs(sum(values) / len(values) - total) > 1e-9:
            continue
        metric = name.partition(",")[0]
        share = all(0 <= value <= 1 for value in values)
        measures[name] = Measure(
            f"{metric} of {task}", "%" if share else metric, "lower" if better.get(metric) is False else "higher",
            functools.partial(_metric, name), functools.partial(_has, name), share,
        )  # fmt: skip
    return measures


def _metric(name: str, row: Row) -> float:
    return row["metrics"].get(name, 0.0)


def _has(name: str, row: Row) -> float:
    return float(name in row["metrics"])


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value


def _unasked(*_: Any) -> Any:
    raise NotImplementedError("lm-eval asks and scores its own tasks")
