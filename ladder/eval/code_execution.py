"""Code benchmarks: run a model's programs against tests in the sandbox, and compute pass@k."""

import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import numpy as np

from ladder.data.jsonl import Row
from ladder.eval.benchmark import Answers, Question
from ladder.eval.measure import Measure
from ladder.verifiers.sandbox import Outcome, Program, run_many

SECONDS = 10.0
"""CPU time limit per program. Published harnesses allow 3 s of wall-clock time; a reference solution of MBPP needs all
of it."""

_ERROR = re.compile(r"(?:\w+\.)*(\w{1,40}(?:Error|Exception))(?::.*)?")


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """Estimate the probability that at least one of k samples passes: 1 - C(n-c, k) / C(n, k).

    n is `samples`, c is `passed`. The estimate is unbiased, and computed as a product as in Chen et al. 2021
    (arXiv 2107.03374), equation 1 and figure 3.
    Errors: ValueError unless 1 <= k <= samples and 0 <= passed <= samples.
    """
    if not (1 <= k <= samples and 0 <= passed <= samples):
        raise ValueError(f"expected 1 <= k <= samples and 0 <= passed <= samples, got {k=}, {samples=}, {passed=}")
    if samples - passed < k:
        return 1.0
    return float(1.0 - np.prod(1.0 - k / np.arange(samples - passed + 1, samples + 1)))


def pass_measures(column: str, ks: Iterable[int]) -> dict[str, Measure]:
    """Build the pass@k measure for each k. A row's `column` is a list of bools: whether each sample passed.

    A question with fewer than k samples has weight 0, because it has no unbiased estimate.
    """

    def value(row: Row, k: int) -> float:
        passed = row[column]
        return pass_at_k(len(passed), sum(passed), k) if len(passed) >= k else 0.0

    def weight(row: Row, k: int) -> float:
        return float(len(row[column]) >= k)

    return {
        f"pass@{k}": Measure(
            f"questions solved by at least one of {k} samples" if k > 1 else "answers that pass",
            "%", "higher", partial(value, k=k), partial(weight, k=k), True,
        )
        for k in ks
    }  # fmt: skip


def score(
    questions: Sequence[Question], answers: Sequence[Answers], program: Callable[[Row, str], str | Program]
) -> list[Row]:
    """Run `program(question's row, answer)` for every sample: the answer's program, and its tests in another process.

    A program without separate tests (a string) passes when it runs to its end, which a hostile program can imitate.

    Returns {"key", "group", "passed": [bool per sample], "verdicts": [[sample, true or how else it ended]]}.
    """
    by_key = {question.key: question for question in questions}
    asked = [by_key[answer.key] for answer in answers]
    programs = [
        [program(question.row, turns[0]) for turns in answer.samples]
        for question, answer in zip(asked, answers, strict=True)
    ]
    return [
        {
            "key": question.key,
            "group": question.group,
            "passed": [how == "passed" for how in samples],
            "verdicts": [[f"sample {n}", how == "passed" or how] for n, how in enumerate(samples, start=1)],
        }
        for question, samples in zip(asked, endings(programs), strict=True)
    ]


def endings(programs: Sequence[Sequence[str | Program]]) -> list[list[str]]:
    """Run programs in the sandbox; return how each ended: "passed", "timeout", "refused", an exception, or "failed".

    Every distinct program runs once. Code under `if __name__ == "__main__":` is not run, as in published harnesses.
    Errors: UserError when there is no sandbox.
    """
    distinct = list(dict.fromkeys(program for samples in programs for program in samples))
    ended = dict(zip(distinct, run_many(distinct, seconds=SECONDS, name="program"), strict=True))
    return [[_ending(ended[program]) for program in samples] for samples in programs]


def _ending(outcome: Outcome) -> str:
    if outcome.kind != "failed":
        return outcome.kind
    last = outcome.output.rstrip().rpartition("\n")[2]
    error = _ERROR.fullmatch(last)
    return error[1] if error else "failed"
