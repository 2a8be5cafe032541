"""Run a task of lm-eval on a rung: generate and score in one step, in the output format of stage `benchmark`.

    python -m stages.lm_eval arc models/sft/chat models/base \
        data/lm_eval/arc/sft/chat.jsonl data/lm_eval/arc/sft/chat.json metrics/lm_eval/arc/sft/chat.json

Every entry runs on every rung of the report's table and is listed there after the table's benchmarks. Its data come
from the Hub, at the commits in `revisions`, or from local files in data/raw that `config` names.
"""

from pathlib import Path

from pydantic import Field

from ladder.data.jsonl import write_json, write_rows
from ladder.eval.lm_harness import Harness, evaluate
from ladder.eval.scores import headline, headlines, summary, versions
from ladder.models.checkpoint import load_complete
from ladder.pipeline.stage import run
from ladder.verifiers.reasoning import unfinished


class Params(Harness):
    task: str = Field(min_length=1)
    """lm-eval's name of the task or group: `arc_easy`, `mmlu`."""


def main(params: Params, model: Path, base: Path, output: Path, summary_out: Path, metrics: Path) -> None:
    """Run the task; write one row per document, the summary, and its first numbers to `metrics`."""
    found = evaluate(load_complete(model, base), params.task, params)
    cut = sum(unfinished(text) for row in found.rows for turns in row["responses"] for text in turns)
    made_by = {
        **({"unfinished_reasoning": cut} if cut else {}),
        "rows": len(found.rows),
        "of": found.documents,
        "headline": headline(found.benchmark),
        **versions(found.benchmark),
        **params.model_dump(mode="json"),
        "reported": found.reported,
    }
    made = {**summary(found.benchmark, found.rows, params), "made_by": made_by}
    write_rows(output, found.rows)
    write_json(summary_out, made)
    write_json(metrics, headlines(made))


if __name__ == "__main__":
    run(main, named=True)
