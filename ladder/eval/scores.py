"""Turn answers into a benchmark's numbers: one row of scores per question, and a summary with intervals."""

from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from ladder import statistics
from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Benchmark, Question, Tools
from ladder.eval.measure import Measure
from ladder.pipeline.stage import Config, UserError
from ladder.statistics import Array
from ladder.verifiers.reasoning import answer_of, unfinished

if TYPE_CHECKING:
    from ladder.judges.judge import Judge

HEADLINES = 5
"""Maximum count of numbers in a metric file."""


class Resampling(Config):
    """How sure a score is said to be."""

    resamples: int = Field(10_000, ge=1_000)
    """Number of bootstrap resamples for each 95% interval."""
    seed: int = 0
    """Seed of the bootstrap, and of any random choice in the score itself."""


def score_answers(found: Benchmark, questions: list[Question], answers: list[Answers], tools: Tools) -> list[Row]:
    """Score answers; return one row for each answered question, with the benchmark's own fields and:

    "measures": {name: [value, weight]}, "prompt", "follow_ups" (the user's further turns), "responses"
    [samples][turns] with their reasoning, "tokens" and "finished" [samples], and "unfinished_reasoning", the number of
    samples whose reasoning never ended, if there are any. The benchmark scores answers without their reasoning.
    Errors: UserError when the benchmark does not return one row per answer, or a row lacks a field of a measure.
    """
    by_key = {question.key: question for question in questions}
    rows = found.score(questions, [_without_reasoning(answer) for answer in answers], tools)
    if [row.get("key") for row in rows] != [answer.key for answer in answers]:
        raise UserError(f"benchmarks/{found.name}.py: score: expected one row per answer, by key and in the same order")
    return [
        {
            **row,
            "group": by_key[answer.key].group,
            "measures": {name: _read(measure, row, name, found) for name, measure in found.measures.items()},
            "prompt": by_key[answer.key].turns[0],
            "follow_ups": list(by_key[answer.key].turns[1:]),
            "responses": [list(turns) for turns in answer.samples],
            "tokens": list(answer.tokens),
            "finished": list(answer.finished),
            **({"unfinished_reasoning": cut} if (cut := unfinished_reasoning([answer])) else {}),
        }
        for row, answer in zip(rows, answers, strict=True)
    ]


def _without_reasoning(answer: Answers) -> Answers:
    """Strip the reasoning: no benchmark scores it or shows it to a judge."""
    return replace(answer, samples=tuple(tuple(map(answer_of, turns)) for turns in answer.samples))


def unfinished_reasoning(answers: list[Answers]) -> int:
    """Count the samples that have a turn whose reasoning never ended."""
    return sum(any(map(unfinished, turns)) for answer in answers for turns in answer.samples)


def _read(measure: Measure, row: Row, name: str, found: Benchmark) -> list[float]:
    try:
        weight = float(measure.weight(row))
        return [float(measure.value(row)) if weight else 0.0, weight]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"benchmarks/{found.name}.py: measure {name} cannot read the row of key {row['key']!r}: {error!r}"
        ) from None


def arrays(rows: list[Row], parts: tuple[str, ...]) -> tuple[Array, Array]:
    """Return values and weights [parts, rows] of the rows where some part has a weight, for ladder.statistics."""
    pairs_NK2 = np.array([[row["measures"][part] for part in parts] for row in rows])
    counted_N = (pairs_NK2[:, :, 1] > 0).any(axis=1)
    return pairs_NK2[counted_N, :, 0].T, pairs_NK2[counted_N, :, 1].T


def estimate(found: Benchmark, rows: list[Row], parts: tuple[str, ...], params: Resampling) -> tuple[float, ...] | None:
    """Return (mean, low, high) of the mean of measures, in their unit, with a 95% bootstrap interval over questions.

    Returns None when a part applies to no row.
    """
    values, weights = arrays(rows, parts)
    if not values.size or not weights.sum(axis=1).all():
        return None
    measures = [found.measures[part] for part in parts]
    interval = statistics.interval if all(measure.share for measure in measures) else statistics.bootstrap
    numbers = (
        statistics.ratio(values, weights),
        *interval(values, weights, resamples=params.resamples, seed=params.seed),
    )
    return tuple(round(measures[0].scale * number, 2) for number in numbers)


def summary(found: Benchmark, rows: list[Row], params: Resampling) -> Row:
    """Compute every number of the benchmark, the headline first, and:

    "interval": `<name>_low` and `<name>_high`, 95%; "groups", if there are several: the headline of each; "caveats":
    {number: its known error}. A number that applies to no row is left out.

    Errors: UserError when the headline applies to no row, for example when all replies of a judge were unparseable.
    """
    numbers, interval = {}, {}
    for name, parts in found.numbers.items():
        if estimated := estimate(found, rows, parts, params):
            numbers[name], interval[f"{name}_low"], interval[f"{name}_high"] = estimated
    if found.title not in numbers:
        raise UserError(f"{found.name}: nothing to score: no answer counts toward {found.title}")
    caveats = {name: text for name, text in found.caveats.items() if name in numbers}
    return {
        **numbers,
        "interval": interval,
        **groups(found, rows, params),
        **({"caveats": caveats} if caveats else {}),
    }


def groups(found: Benchmark, rows: list[Row], params: Resampling) -> Row:
    """Return {"groups": {group: {headline, "low", "high", "rows"}}}; a row of several groups counts in each."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        for name in dict.fromkeys(Question(row["key"], (), row["group"]).groups):
            members.setdefault(name, []).append(row)
    if len(members) < 2:
        return {}
    table = {}
    for name in sorted(members):
        if estimated := estimate(found, members[name], found.headline, params):
            mean, low, high = estimated
            table[name] = {found.title: mean, "low": low, "high": high, "rows": len(members[name])}
    return {"groups": table}


def headlines(summary: Row) -> Row:
    """Return a summary's first numbers, the headline first, for the metric file; or why there are none."""
    if "absent" in summary:
        return {"absent": summary["absent"]}
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    return dict(list(numbers.items())[:HEADLINES])


def headline(found: Benchmark) -> Row:
    """Describe the benchmark's score for the summary: name, measures, unit and direction."""
    first = found.measures[found.headline[0]]
    return {"name": found.title, "measures": list(found.headline), "unit": first.unit, "better": first.better}


def versions(found: Benchmark) -> dict[str, str]:
    """Return the versions of the packages that affect the scores."""
    return {package: version(package) for package in found.packages}


def made_by(
    found: Benchmark, questions: list[Question], answers: list[Answers], params: Resampling, judge: "Judge | None"
) -> Row:
    """Build the provenance of the numbers: counts of answers, headline, package versions, settings and judge."""
    finished = [ended for answer in answers for ended in answer.finished]
    tokens = [count for answer in answers for count in answer.tokens]
    facts: Row = {"rows": len(answers), "of": len(questions)}
    if (samples := max(len(answer.samples) for answer in answers)) > 1:
        facts["samples"] = samples
    if finished:
        facts["finished"] = round(100 * sum(finished) / len(finished), 2)
    if cut := unfinished_reasoning(answers):
        facts["unfinished_reasoning"] = cut
    if tokens:
        facts["tokens"] = round(sum(tokens) / len(tokens), 1)
    facts["headline"] = headline(found)
    facts |= versions(found)
    facts |= params.model_dump(exclude={"judge"})
    if judge is not None:
        facts["judge"] = judge.record(*found.templates(questions))
    return facts
