"""Judge settings of a benchmark. The judge's modules are imported only when a judge is configured."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from ladder.eval.scores import Resampling
from ladder.pipeline.stage import UserError, fit

if TYPE_CHECKING:
    from ladder.judges.judge import Judge


class Scoring(Resampling):
    """How sure a score is said to be, and who judges."""

    judge: dict[str, Any] | None = None
    """Judge of the answers, where the benchmark uses one: keys of ladder.judges.judge.Judging."""

    @field_validator("judge")
    @classmethod
    def known(cls, judge: dict[str, Any] | None) -> dict[str, Any] | None:
        """Check the judge's keys without importing the judge for benchmarks that have none."""
        if judge is not None:
            from ladder.judges.judge import Judging  # slow imports, needed only with a judge

            try:
                fit(Judging, judge, "judge")
            except UserError as refusal:
                raise ValueError(str(refusal)) from None
        return judge


class Judges:
    """The judges of several benchmarks. Benchmarks with the same settings share one model, or one client and budget."""

    def __init__(self, base: Path) -> None:
        self._base, self._loaded = base, dict[str, "Judge"]()

    def of(self, params: Scoring) -> "Judge | None":
        """Return the judge of `params` with counts from 0; None without a judge."""
        key = json.dumps(params.judge, sort_keys=True)
        if key not in self._loaded:
            if (judge := judge_of(params, self._base)) is None:
                return None
            self._loaded[key] = judge
        return self._loaded[key].from_zero()


def judge_of(params: Scoring, base: Path) -> "Judge | None":
    """Load the judge of `params`: its endpoint, or the model in `base`; None without a judge."""
    if params.judge is None:
        return None
    from ladder.judges.judge import Judging, load_judge

    return load_judge(fit(Judging, params.judge, "judge"), base, base)
