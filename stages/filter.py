"""Filter the rows of a dataset; write every rejected row with its reason to a ledger.

python -m stages.filter chat data/generate/chat.jsonl data/task models/base models/base prompts/quality \
    data/filter/chat.jsonl data/filter/chat.rejected.jsonl data/filter/chat.rejected.md metrics/filter/chat.json \
    plots/filter/chat.tsv
"""

import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from ladder.data.jsonl import write_json, write_text
from ladder.filters.executor import Engine, shards, spread
from ladder.filters.passes import join, run_passes
from ladder.filters.stats import funnel, metrics, total, write_samples
from ladder.filters.steps import FilterContext, parse
from ladder.pipeline.stage import Config, UserError, run


def known(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Pydantic validator: check that each step names one filter, with parameters that fit it."""
    parse(steps)
    return steps


class Params(Config):
    data: str
    """File of rows under data/: `generate/chat`."""
    model: str = "base"
    """Model of the filters with a `model`, under models/: a reward rung or a sentence encoder. Leave it out when no
    step asks a model."""
    steps: Annotated[list[dict[str, Any]], AfterValidator(known)]
    """Filters in order, each `name: {parameters}`; ladder/filters/basic.py describes each filter."""
    contamination: Literal["refuse", "report"] = "refuse"
    """Contamination gate after all steps, for kept rows that share an n-gram of words with a benchmark.

    `refuse` stops the stage; `report` counts these rows in the metrics. n is that of the step `decontaminate`, or 8
    without this step.
    """
    engine: Engine = "local"
    """`local`, or `datatrove: {tasks, workers}` for processes on this machine or a cluster; the bytes are the same."""


def main(
    params: Params,
    data: Path,
    tasks: Path,
    model: Path,
    base: Path,
    prompts: Path,
    output: Path,
    ledger: Path,
    samples: Path,
    metrics_file: Path,
    plot: Path,
) -> None:
    """Filter `data`; write kept rows to `output`, and rejected ones with their reasons to `ledger`.

    samples: Markdown with the counts, the most common reasons, and rejected rows to read. metrics_file: JSON with the
    counts of each step. plot: TSV with the number of rows left after each step.
    Errors: UserError when `data` is missing, and when kept rows are contaminated and `contamination` is `refuse`.
    """
    steps = parse(params.steps)
    scratch = output.with_name(f".{output.stem}.passes")  # beside the output: workers on other machines see it too
    shutil.rmtree(scratch, ignore_errors=True)
    if not data.is_file():
        raise UserError(f"{data}: no such file")
    try:
        given = FilterContext(tasks, model, base, prompts)
        done = run_passes(data, steps, given, scratch, shards(params.engine), spread(params.engine))
        if done.contaminated and params.contamination == "refuse":
            raise UserError(
                f"{data}: {total(done.tally, 'contaminated')} kept rows still overlap a benchmark, "
                f"first {done.contaminated[0]}. Add the step decontaminate, or set contamination: report."
            )
        write_samples(samples, done.tally, done.rejected)
        join(done.kept, output)
        join([path for paths in done.rejected.values() for path in paths], ledger)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    labels = [step.label for step in steps]
    write_json(metrics_file, metrics(done.tally, labels))
    write_text(plot, funnel(done.tally, labels))


if __name__ == "__main__":
    run(main, named=True)
