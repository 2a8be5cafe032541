"""Report of what each rung learned: every claim with its paired difference, and the measures of all rungs.

python -m stages.claims data/heldout data/accuracy data/divergence data/reward report/claims.md report/claims.json \
    report/claims.tsv metrics/claims.json
"""

from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ladder.data.jsonl import Row, read_json, read_rows, write_json, write_text
from ladder.eval.measure_seeds import corrected, judged_over_seeds, mean_of_seeds
from ladder.eval.measures import CHANCE, MEASURES, REWARD, Scores, compare, parsed, rows_path, scores
from ladder.pipeline.seeds import original
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
    seeds: int = Field(1, ge=1, strict=True)
    """Number of seeds of data and training. Each rung is made again with other seeds, with all that it is made of.

    A claim then holds only if it holds on every seed, and its interval covers both kinds of variance.
    """

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
Seeds = dict[str, list[str]]
"""Names of a rung and its replicas, by rung."""


def replicated(measured: list[str]) -> Seeds:
    """Return the names of a rung and its replicas, for every rung that has some."""
    found_names: dict[str, list[str]] = {}
    for name in measured:
        found_names.setdefault(original(name), []).append(name)
    return {rung: names for rung, names in found_names.items() if len(names) > 1}


def read(params: Params, folders: dict[str, Path], measured: list[str]) -> Table:
    """Read every rung's scores by (measure, rung), for the measures of the claims; missing files are left out."""
    table: Table = {}
    for name in dict.fromkeys(claim.measure for claim in params.claims):
        listed = params.rungs if name == REWARD else getattr(params, parsed(name)[0])
        for rung in (rung for rung in measured if original(rung) in listed):
            path = file_of(folders, name, rung)
            if not path.is_file():
                continue
            if name == REWARD:
                read_reward = reward_scores if params.seeds > 1 else reward_standing
                table[name, rung] = read_reward(read_json(path), path)
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


def reward_scores(summary: Row, path: Path) -> Scores:
    """Read the outcomes of a reward model's held-out pairs, which a comparison over seeds needs."""
    rows = [{"id": name, "won": share} for name, share in summary.get("won") or []]
    if not rows:
        raise UserError(f"{path}: won: missing; expected the outcome of each pair. `dvc repro reward` writes it")
    measure = MEASURES["accuracy"]["relative"]._replace(title="pairs won", value=itemgetter("won"))
    return scores(rows, measure, path)


def standing(seen: Scores | Standing) -> Standing:
    """Return the value and the interval of scores."""
    return seen if isinstance(seen, Standing) else Standing(seen.mean, *seen.interval)


def judge(claim: Claim, table: Table, folders: dict[str, Path], seeds: Seeds) -> dict[str, Any]:
    """Evaluate a claim: its two values, their difference with interval and p, the verdict, and whether it holds."""
    if claim.rung in seeds or claim.against in seeds:
        return judge_seeds(claim, table, folders, seeds)
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


def judge_seeds(claim: Claim, table: Table, folders: dict[str, Path], seeds: Seeds) -> dict[str, Any]:
    """Evaluate a claim over several seeds. Errors: UserError when they were not measured on the same rows."""
    count = max(len(seeds.get(rung, [])) for rung in (claim.rung, claim.against))
    second = _scores_by_seed(claim, claim.rung, table, folders, seeds, count)
    if claim.against == CHANCE:
        first = [one.chance for one in second]
    else:
        first = _scores_by_seed(claim, claim.against, table, folders, seeds, count)
    try:
        compared = judged_over_seeds(first, second, not_worse=claim.not_worse)
    except ValueError:
        raise UserError(
            f"{claim.measure}: {claim.rung} and {claim.against} were not measured on the same rows on every seed; "
            "`dvc repro` measures both again"
        ) from None
    return {
        **claim.model_dump(),
        "value": _rounded(_standing_of_seeds(second) if claim.rung in seeds else standing(second[0])),
        "against_value": _rounded(_standing_of_seeds(first) if claim.against in seeds else standing(first[0])),
        **compared,
    }


def _scores_by_seed(
    claim: Claim, rung: str, table: Table, folders: dict[str, Path], seeds: Seeds, count: int
) -> list[Scores]:
    """Return a rung's scores on each seed; a rung that was made once has the same ones on all."""
    found_scores = [found(claim, name, table, folders) for name in seeds.get(rung, [rung] * count)]
    return [one for one in found_scores if isinstance(one, Scores)]


def _standing_of_seeds(found_scores: list[Scores]) -> Standing:
    return Standing(*mean_of_seeds(found_scores))


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


def line(rung: str, table: Table, folders: dict[str, Path], seeds: Seeds) -> dict[str, Any]:
    """Build a rung's row of claims.json from its measures, and from what these record about the rung."""
    measured, by_seed = {}, {}
    for name in [name for name, of in table if of == rung]:
        every = [one for each in seeds.get(rung, ()) if isinstance(one := table.get((name, each)), Scores)]
        if every:
            by_seed[name] = [round(one.mean, 4) for one in every]
        measured[name] = _rounded(_standing_of_seeds(every) if every else standing(table[name, rung]))
    facts: Row = {}
    for name in measured:
        summary = file_of(folders, name, rung).with_suffix(".json")
        if summary.is_file():
            facts = read_json(summary).get("made_by", {}).get("rung", {})
            break
    described = {key: facts[key] for key in DESCRIBED if facts.get(key) not in (None, "")}
    return {**described, "measures": measured, **({"by_seed": by_seed} if by_seed else {})}


def main(
    params: Params, heldout: Path, accuracy: Path, divergence: Path, reward: Path,
    output: Path, summary: Path, points: Path, metrics: Path, *, measured: list[str],
) -> None:  # fmt: skip
    """Evaluate the claims; write the report to `output` (Markdown), `summary` (JSON) and `points` (TSV).

    heldout, accuracy, divergence: folders of measured rows. reward: folder of the reward models' held-out accuracies.
    metrics: counts of the claims and of those that hold. measured: the rungs with their replicas.
    Errors: UserError when a measurement of a claim is missing.
    """
    folders = {"heldout": heldout, "accuracy": accuracy, "divergence": divergence, REWARD: reward}
    table, seeds = read(params, folders, measured), replicated(measured)
    claims = [judge(claim, table, folders, seeds) for claim in params.claims]
    claims = corrected(claims) if seeds else claims
    lines = {rung: line(rung, table, folders, seeds) for rung in params.rungs}
    text = claims_page(claims, lines)
    write_text(output, text)
    write_json(summary, {"claims": claims, "rungs": lines})
    rows = [[rung, name, *map(str, ends)] for rung, row in lines.items() for name, ends in row["measures"].items()]
    write_text(points, "".join("\t".join(row) + "\n" for row in [["rung", "measure", "value", "low", "high"], *rows]))
    write_json(metrics, {"claims": len(claims), "hold": sum(claim["holds"] for claim in claims)})
    print(text)


if __name__ == "__main__":
    run(main, names={"measured": "rungs.claims"})
