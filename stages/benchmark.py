"""Score a rung's answers to IFEval: four accuracies, how sure they are, and every prompt's verdict.

    python -m stages.benchmark ifeval data/task/ifeval.jsonl data/punkt \
        data/respond/ifeval/sft/chat.jsonl metrics/sft/chat.json \
        data/benchmark/ifeval/sft/chat.jsonl metrics/ifeval/sft/chat.json
"""

from collections import Counter
from importlib.metadata import version
from pathlib import Path

from pydantic import Field

from ladder import ifeval, statistics
from ladder.rows import Row, column, read_json, read_rows, write_json, write_rows
from ladder.run import Refused, Section, run

KEPT = ("method", "parent", "parameters", "trainable_parameters", "seconds")


class Params(Section):
    """How sure a score is said to be."""

    resamples: int = Field(10_000, ge=1_000)
    """Bootstrap resamples behind each 95% interval."""
    seed: int = 0
    """Seed of the bootstrap; the scores themselves do not depend on it."""


def check(rows: list[Row], answers: list[Row], task: Path, responses: Path) -> None:
    """The answers are to this task's prompts, each answered once. Which of them were asked, `respond` decided."""
    for name, kind in (("response", str), ("tokens", int), ("finished", bool)):
        column(answers, name, kind, responses)
    prompts = {row["key"]: row["prompt"] for row in rows}
    for number, answer in enumerate(answers, start=1):
        if answer.get("key") not in prompts:
            raise Refused(f"{responses}: row {number}: key {answer.get('key')!r} is not in {task}")
        if answer.get("prompt") != prompts[answer["key"]]:
            raise Refused(f"{responses}: row {number}: the prompt of key {answer['key']!r} is not the one in {task}")
    key, times = Counter(answer["key"] for answer in answers).most_common(1)[0]
    if times > 1:
        raise Refused(f"{responses}: key {key!r} is answered {times} times, expected once")


def summary(params: Params, scores: list[Row]) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracies in percent, and their 95% intervals as `<name>_low` and `<name>_high`."""
    accuracy, interval = {}, {}
    for kind in ("strict", "loose"):
        passed, asked = ifeval.outcomes(scores, kind)
        for name, part in (("mean", slice(None)), ("prompt", slice(0, 1)), ("instruction", slice(1, 2))):
            bounds = statistics.interval(passed[part], asked[part], resamples=params.resamples, seed=params.seed)
            accuracy[f"{name}_{kind}"] = round(100 * statistics.ratio(passed[part], asked[part]), 2)
            interval[f"{name}_{kind}_low"], interval[f"{name}_{kind}_high"] = (round(100 * x, 2) for x in bounds)
    return accuracy, interval


def main(
    params: Params, task: Path, punkt: Path, responses: Path, ledger: Path, scores_out: Path, metrics_out: Path
) -> None:
    """Check the answers belong to the task, score them, write each prompt's result, the summary and who answered."""
    rows, answers, rung = read_rows(task), read_rows(responses), read_json(ledger)
    check(rows, answers, task, responses)
    scores = ifeval.score(rows, answers, punkt)
    accuracy, interval = summary(params, scores)
    kept = ("prompt", "response", "tokens", "finished")
    write_rows(
        scores_out,
        ({**score, **{name: answer[name] for name in kept}} for score, answer in zip(scores, answers, strict=True)),
    )
    made_by = {
        "rows": len(answers),
        "of": len(rows),
        "finished": round(100 * sum(answer["finished"] for answer in answers) / len(answers), 2),
        "tokens": round(sum(answer["tokens"] for answer in answers) / len(answers), 1),
        "lm_eval": version("lm_eval"),
        **params.model_dump(),
        "rung": {name: rung[name] for name in KEPT if name in rung},
    }
    write_json(metrics_out, {**accuracy, "interval": interval, "made_by": made_by})


if __name__ == "__main__":
    run(main, named=True)
