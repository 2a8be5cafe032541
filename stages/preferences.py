"""Preference pairs from the policy's own samples, ranked by checks, a reward model, a judge, or four graded aspects.

python -m stages.preferences chat data/prompts.jsonl models/sft/chat models/base models/base prompts/preferences \
    data/preferences/chat.jsonl data/preferences/chat.validation.jsonl metrics/preferences/chat.json
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ladder.data.jsonl import Row, write_json, write_rows
from ladder.inference.endpoint import served_by
from ladder.judges.judge import Judging, load_judge
from ladder.pipeline.stage import UserError, run
from ladder.synthesis import critique
from ladder.synthesis.pair_balancing import Controls, controlled, labeled
from ladder.synthesis.ranking import by_checks, by_scores, by_verdicts, contests
from ladder.synthesis.rejection_sampling import Samples, asked, rates, sample


class Params(Samples, Controls):
    pairs_per_prompt: int = Field(ge=1)
    """Maximum number of pairs per prompt; each sample is used in at most one pair."""
    rank: Literal["checks", "reward", "judge", "aspects"] = "checks"
    """Ranking of the samples.

    checks   only the better answer meets all its checks
    reward   a reward model's score
    judge    a judge prefers the answer in both orders; otherwise the pair is a tie and is dropped
    aspects  the mean of a judge's four grades from 1 to 5
    """
    ranker: str = "base"
    """Rung that ranks: of stage reward for `reward`, else the judge where `judge` names no endpoint. Leave it out for
    `checks`."""
    judge: Judging = Judging()
    """The judge of method `judge`, and what it is asked for."""

    @model_validator(mode="after")
    def _goes_together(self) -> "Params":
        if self.margin is not None and self.rank in ("checks", "judge"):
            raise ValueError(f"margin: no effect, because rank: {self.rank} gives no scores. Omit it.")
        if self.judge != Judging() and self.rank in ("checks", "reward"):
            raise ValueError(f"judge: no effect, because rank: {self.rank} asks no judge. Omit it.")
        return self


TEMPLATES = {"checks": (), "reward": (), "judge": ("pairwise",), "aspects": critique.ASPECTS}
NONE = {
    "checks": "no prompt has both an answer that meets its checks and one that does not",
    "reward": "no prompt has two different answers, the better one finished",
    "judge": "no prompt has a finished answer that the judge prefers in both orders",
    "aspects": "no prompt has two different graded answers, the better one finished",
}


def ranked(
    params: Params, rows: list[Row], ranker: Path, base: Path, templates: dict[str, str]
) -> tuple[list[Row], Row]:
    """Return (pairs, ranking entries of the metrics)."""
    if params.rank == "checks":
        return by_checks(rows, params.pairs_per_prompt), {}
    if params.rank == "reward":
        from ladder.models.checkpoint import load_reward  # torch, which endpoints do not need

        scores = critique.reward_scores(load_reward(ranker, base), rows)
        scored = [{**row, "score": score} for row, score in zip(rows, scores, strict=True)]
        return by_scores(scored, params.pairs_per_prompt), {}
    judge = load_judge(params.judge, ranker, base)
    if params.rank == "aspects":
        grades = critique.aspects(judge, rows, templates)
        scored = [{**row, **grade} for row, grade in zip(rows, grades, strict=True) if grade is not None]
        counted: Row = {"ungraded": len(rows) - len(scored)}
        made = by_scores(scored, params.pairs_per_prompt)
    else:
        put = contests(rows, params.pairs_per_prompt)
        made, counted = by_verdicts(put, critique.compared(judge, put, templates["pairwise"]))
    return made, {**counted, "judge": judge.record(*templates.values())}


def main(
    params: Params,
    prompts: Path,
    model: Path,
    ranker: Path,
    base: Path,
    templates: Path,
    output: Path,
    validation: Path,
    metrics: Path,
) -> None:
    """Sample answers to `prompts`, rank them, and write pairs to `output` and `validation`.

    ranker: the rung that ranks. templates: folder of the judge prompts. metrics: JSON with pass rates and counts.
    Errors: UserError when no pair can be made.
    """
    texts = critique.read_templates(templates, TEMPLATES[params.rank])  # before any paid request
    if params.rank == "checks" and not any(row["checks"] for row in asked(params, prompts)):
        raise UserError(f"{prompts}: no prompt has a check. Set rank: reward, judge or aspects.")
    rows = list(sample(params, prompts, model, base, progress=f"preferences {output.stem}"))
    made, counted = ranked(params, rows, ranker, base, texts)
    if not made:
        why = "".join(f", {name}: {count}" for name, count in counted.items() if name != "judge")
        raise UserError(f"{output}: {NONE[params.rank]}{why}. Raise samples, or choose another rank.")
    labels, counts = controlled(made, params, params.seed, output)
    write_rows(output, labeled(made, labels, "train"))
    write_rows(validation, labeled(made, labels, "validation"))
    write_json(metrics, {**rates(rows), **counts, **counted, **served_by(params.endpoint)})


if __name__ == "__main__":
    run(main, named=True)
