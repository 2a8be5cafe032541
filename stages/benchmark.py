"""Score a rung's answers to a benchmark: metrics with confidence intervals, and a verdict per question.

    python -m stages.benchmark ifeval data/task/ifeval.jsonl data/punkt data/respond/sft/chat/ifeval.jsonl \
        metrics/sft/chat.json models/base \
        data/benchmark/ifeval/sft/chat.jsonl data/benchmark/ifeval/sft/chat.json metrics/ifeval/sft/chat.json

The summary is written twice: to git as a metric, and beside the rows for the report, which reads only that folder. If
this machine lacks what the benchmark needs (for example a sandbox for programs), the stage scores nothing and succeeds,
so the pipeline continues. The summary then names the missing part. Install it and run
`dvc repro --force benchmark@humaneval-base` to score.
"""

from pathlib import Path

from ladder.data.jsonl import Row, column, read_json, read_rows, write_json, write_rows
from ladder.eval.benchmark import Tools
from ladder.eval.judge_config import Scoring, judge_of
from ladder.eval.registry import asked, benchmark
from ladder.eval.responses import read_answers
from ladder.eval.scores import made_by, of_rung, score_answers, summary
from ladder.pipeline.stage import UserError, run


class Params(Scoring):
    """How the answers are scored; who judges them where the benchmark asks a judge."""


def main(
    params: Params, task: Path, punkt: Path, responses: Path, ledger: Path, base: Path,
    output: Path, summary_out: Path, metrics_out: Path,
) -> None:  # fmt: skip
    """Check that the answers belong to the task, score them, and write the summary and one row per question."""
    outputs = output, summary_out, metrics_out
    found, rows = benchmark(task.stem), read_rows(responses)
    questions = asked(found, read_rows(task), task)
    for name, kind in (("tokens", int), ("finished", bool)):
        column(rows, name, kind, responses)
    answers, others = read_answers(questions, rows, responses)
    if others:
        raise UserError(f"{responses}: row {others[0]}: its prompt differs from the prompt of its key in {task}")
    try:
        found.needs()
    except UserError as lacking:
        print(f"{found.name}: not scored: {lacking}", flush=True)
        write(outputs, [], {"absent": str(lacking), "made_by": {"rung": of_rung(read_json(ledger))}})
        return
    judge = judge_of(params, base)
    scores = score_answers(found, questions, answers, Tools(punkt, judge, params.seed))
    made = {
        **summary(found, scores, params),
        "made_by": {
            **made_by(found, questions, answers, params, judge),
            "rung": of_rung(read_json(ledger)),
        },
    }
    write(outputs, scores, made)


def write(outputs: tuple[Path, Path, Path], scores: list[Row], made: Row) -> None:
    """Write the rows of scores to the first path, and the summary to both others."""
    write_rows(outputs[0], scores)
    for path in outputs[1:]:
        write_json(path, made)


if __name__ == "__main__":
    run(main, named=True)
