"""Report of what each rung learned: every claim with its paired difference, and the measures of all rungs.

python -m stages.claims data/heldout data/accuracy data/divergence data/reward report/claims.md report/claims.json \
    report/claims.tsv metrics/claims.json
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ValidationInfo, field_validator, model_validator

from ladder.data.jsonl import Row, read_json, read_rows, write_json, write_text
from ladder.eval.measures import CHANCE, MEASURES, REWARD, Scores, compare, parsed, rows_path, scores
from ladder.pipeline.stage import Config, UserError, run
from ladder.report.claims_page import claims_page
from ladder.statistics import IMPROVED, REGRESSED, UNCHANGED

DESCRIBED = ("method", "parent", "parameters", "trainable_parameters")
"""Facts about a rung in claims.json, as its measurements record them."""


class Claim(Config):
    """What a rung is for, as something that can turn out false."""

    rung: str
    """Rung that should have learned: `dpo/maths`."""
    against: str
    """Baseline rung, `sft/maths`; or `chance` for a coin flip, where the measure is a share of pairs."""
    measure: str
    """Folder of measured rows under data/: `heldout/prompts`, `accuracy`, `divergence`. A colon selects another
    measure of these rows: `heldout/prompts:reward`. Or `reward`: a reward model's own held-out accuracy."""
    better: Literal["higher", "lower"]
    """Whether a higher or a lower value of the measure is better."""
    not_worse: bool = False
    """Claim only that the rung is not worse."""

    @model_validator(mode="after")
    def known(self) -> "Claim":
        """Check that the measure exists, has this direction, and can be compared with `against`."""
        if self.measure == REWARD:
            if self.against != CHANCE or self.better != "higher":
                raise ValueError(f"{REWARD}: expected against: {CHANCE} and better: higher")
            return self
        kind, measure = parsed(self.measure)
        if measure.better != self.better:
            raise ValueError(f"{self.measure} is better {measure.better}")
        if self.against == CHANCE and kind != "accuracy":
            raise ValueError(f"chance is known for accuracy and {REWARD}, not for {self.measure}")
        return self


class Params(Config):
    heldout: list[str] = []
    """Rungs that answer held-out prompts. The table lists the rungs of these three lists, in this order."""
    accuracy: list[str] = []
    """Rungs whose preference accuracy is measured on held-out pairs."""
    divergence: list[str] = []
    """Rungs whose divergence from the teacher is measured."""
    claims: list[Claim] = []
    """Claims to test, in the order of the table."""

    @field_validator("claims")
    @classmethod
    def measured(cls, claims: list[Claim], fields: ValidationInfo) -> list[Claim]:
        """Check that the rungs of each claim are listed for its measure."""
        for claim in claims:
            kind = parsed(claim.measure)[0] if claim.measure != REWARD else ""
            for rung in {claim.rung, claim.against} - {CHANCE}:
                if kind and rung not in fields.data.get(kind, [rung]):
                    raise ValueError(f"{rung} is compared on {claim.measure}, but is not among claims.{kind}")
        return claims

    @property
    def rungs(self) -> list[str]:
        """Rungs of the table: the measured ones, then the reward models of the claims."""
        claimed = [claim.rung for claim in self.claims]
        return list(dict.fromkeys([*self.heldout, *self.accuracy, *self.divergence, *claimed]))


class Standing(NamedTuple):
    """A value and its 95% interval, in its measure's unit."""

    value: float
    low: float
    high: float


Table = dict[tuple[str, str], Scores | Standing]


def read(params: Params, folders: dict[str, Path]) -> Table:
    """Read every rung's scores by (measure, rung), for the measures of the claims; missing files are left out."""
    table: Table = {}
    for name in dict.fromkeys(claim.measure for claim in params.claims):
        listed = params.rungs if name == REWARD else getattr(params, parsed(name)[0])
        for rung in listed:
            path = file_of(folders, name, rung)
            if not path.is_file():
                continue
            if name == REWARD:
                table[name, rung] = reward_standing(read_json(path), path)
                continue
            rows, (_, measure) = read_rows(path), parsed(name)
            # The reference has no margin against itself (it is 0), so stage accuracy leaves it out.
            if measure is not MEASURES["accuracy"]["relative"] or "relative_margin" in rows[0]:
                table[name, rung] = scores(rows, measure, path)
    return table


def file_of(folders: dict[str, Path], measure: str, rung: str) -> Path:
    """Return the path of a rung's rows of a measure; of a reward model, that of its held-out accuracy."""
    if measure == REWARD:
        return folders[REWARD] / f"{rung.removeprefix(f'{REWARD}/')}.json"
    return rows_path(folders, measure, rung)


def reward_standing(summary: Row, path: Path) -> Standing:
    """Read a reward model's held-out accuracy with its interval, in percent."""
    try:
        return Standing(*(float(summary[f"heldout_{end}"]) for end in ("accuracy", "low", "high")))
    except (KeyError, TypeError):
        raise UserError(f"{path}: expected numbers as heldout_accuracy, heldout_low and heldout_high") from None


def standing(seen: Scores | Standing) -> Standing:
    """Return the value and the interval of scores."""
    return seen if isinstance(seen, Standing) else Standing(seen.mean, *seen.interval)


def judge(claim: Claim, table: Table, folders: dict[str, Path]) -> dict[str, Any]:
    """Evaluate a claim: its two values, their difference with interval and p, the verdict, and whether it holds."""
    second = found(claim, claim.rung, table, folders)
    if claim.against != CHANCE:
        first = found(claim, claim.against, table, folders)
    else:
        first = second.chance if isinstance(second, Scores) else Standing(50.0, 50.0, 50.0)
    difference = _against(claim, first, second)
    verdict = difference["verdict"]
    return {
        **claim.model_dump(),
        "value": _rounded(standing(second)),
        "against_value": _rounded(standing(first)),
        **{key: round(difference[key], 4) for key in ("difference", "low", "high")},
        "p": difference["p"] if difference["p"] is None else float(f"{difference['p']:.3g}"),
        "n": len(second.ids) if isinstance(second, Scores) else None,
        "verdict": verdict,
        "holds": verdict != REGRESSED if claim.not_worse else verdict == IMPROVED,
    }


def found(claim: Claim, rung: str, table: Table, folders: dict[str, Path]) -> Scores | Standing:
    """Return a rung's scores on the claim's measure. Errors: UserError naming the file that is missing or lacks it."""
    if (claim.measure, rung) in table:
        return table[claim.measure, rung]
    path = file_of(folders, claim.measure, rung)
    if path.is_file():
        raise UserError(
            f"{path}: it has no {claim.measure}; a reference has no margin against itself. Compare with {CHANCE}, or "
            "by accuracy:normalized"
        )
    only = f"; only a rung of the stage {REWARD} has this measure" if claim.measure == REWARD else ""
    raise UserError(f"{path}: no such file; a claim compares {rung} on {claim.measure}{only}")


def _against(claim: Claim, first: Scores | Standing, second: Scores | Standing) -> dict[str, Any]:
    if isinstance(first, Scores) and isinstance(second, Scores):
        try:
            return dict(compare(first, second))
        except ValueError:
            raise UserError(
                f"{claim.measure}: {claim.rung} and {claim.against} were not measured on the same rows; "
                "`dvc repro` measures both again"
            ) from None
    first, second = standing(first), standing(second)
    verdict = IMPROVED if second.low > first.value else REGRESSED if second.high < first.value else UNCHANGED
    ends = {key: end - first.value for key, end in zip(("difference", "low", "high"), second, strict=True)}
    return {**ends, "p": None, "verdict": verdict}


def _rounded(seen: Standing) -> list[float]:
    return [round(number, 4) for number in seen]


def line(rung: str, table: Table, folders: dict[str, Path]) -> dict[str, Any]:
    """Build a rung's row of claims.json from its measures, and from what these record about the rung."""
    measured = {name: _rounded(standing(seen)) for (name, of), seen in table.items() if of == rung}
    facts: Row = {}
    for name in measured:
        summary = file_of(folders, name, rung).with_suffix(".json")
        if summary.is_file():
            facts = read_json(summary).get("made_by", {}).get("rung", {})
            break
    return {**{key: facts[key] for key in DESCRIBED if facts.get(key) not in (None, "")}, "measures": measured}


def main(
    params: Params, heldout: Path, accuracy: Path, divergence: Path, reward: Path,
    output: Path, summary: Path, points: Path, metrics: Path,
) -> None:  # fmt: skip
    """Evaluate the claims; write the report to `output` (Markdown), `summary` (JSON) and `points` (TSV).

    heldout, accuracy, divergence: folders of measured rows. reward: folder of the reward models' held-out accuracies.
    metrics: counts of the claims and of those that hold.
    Errors: UserError when a measurement of a claim is missing.
    """
    folders = {"heldout": heldout, "accuracy": accuracy, "divergence": divergence, REWARD: reward}
    table = read(params, folders)
    claims = [judge(claim, table, folders) for claim in params.claims]
    lines = {rung: line(rung, table, folders) for rung in params.rungs}
    text = claims_page(claims, lines)
    write_text(output, text)
    write_json(summary, {"claims": claims, "rungs": lines})
    rows = [[rung, name, *map(str, ends)] for rung, row in lines.items() for name, ends in row["measures"].items()]
    write_text(points, "".join("\t".join(row) + "\n" for row in [["rung", "measure", "value", "low", "high"], *rows]))
    write_json(metrics, {"claims": len(claims), "hold": sum(claim["holds"] for claim in claims)})
    print(text)


if __name__ == "__main__":
    run(main)
