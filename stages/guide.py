"""Report of what each rung learned: every claim with its paired difference, and the measures of all rungs.

python -m stages.guide data/heldout data/accuracy data/divergence metrics report/guide.md report/guide.json \
    report/guide.tsv
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationInfo, field_validator, model_validator

from ladder.data.jsonl import read_json, read_rows, write_json, write_text
from ladder.data.markdown import Markdown, table
from ladder.eval.measures import MEASURES, Scores, compare, parsed, scores
from ladder.pipeline.stage import Config, UserError, run

CHANCE = "chance"
REWARD = "reward"
COSTS = {"seconds": 0, "memory_gb": 1, "tokens_per_second": 0}
LEDGER = ("method", "parent", "parameters", "trainable_parameters", *COSTS)
NOTE = (
    "In brackets are 95% bootstrap intervals over prompts; all answers to a prompt are one cluster. A difference is of "
    "the same rows, prompt by prompt. *Learned* and *worse* are said only where its interval excludes 0 and a paired "
    "test (which swaps the two results of a prompt at random; McNemar's for one answer a prompt) gives p < 0.05. *Not "
    "worse beyond noise* says no more than that: the lower end of the interval is what may have been lost. Of twenty "
    "comparisons of equals, one may look different by chance. A reward model's accuracy is of its pairs alone, with "
    "Wilson's interval and no test. Each rung was trained once: what another seed of its training would have given is "
    "in no interval."
)


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
    not_worse: bool = False
    """Claim only that the rung is not worse."""

    @model_validator(mode="after")
    def known(self) -> "Claim":
        """Check that the measure exists, has this direction, and can be compared with `against`."""
        if self.measure == REWARD:
            if self.against != CHANCE or self.better != "higher":
                raise ValueError(f"the measure {REWARD} stands against {CHANCE} and is better higher")
            return self
        kind, measure = parsed(self.measure)
        if measure.better != self.better:
            raise ValueError(f"{self.measure} is better {measure.better}")
        if self.against == CHANCE and kind != "accuracy":
            raise ValueError(f"chance is known for accuracy and {REWARD}, not for {self.measure}")
        return self


class Params(Config):
    heldout: list[str] = Field(min_length=1)
    """Rungs that answer held-out prompts. The table lists the rungs of these three lists, in this order."""
    accuracy: list[str] = Field(min_length=1)
    """Rungs whose preference accuracy is measured on held-out pairs."""
    divergence: list[str] = Field(min_length=1)
    """Rungs whose divergence from the teacher is measured."""
    claims: list[Claim] = Field(min_length=1)

    @field_validator("claims")
    @classmethod
    def measured(cls, claims: list[Claim], fields: ValidationInfo) -> list[Claim]:
        """Check that the rungs of each claim are listed for its measure."""
        for claim in claims:
            kind = parsed(claim.measure)[0] if claim.measure != REWARD else ""
            for rung in {claim.rung, claim.against} - {CHANCE}:
                if kind and rung not in fields.data.get(kind, [rung]):
                    raise ValueError(f"{rung} is compared on {claim.measure}, but is not among guide.{kind}")
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


def rows_of(folders: dict[str, Path], measure: str, rung: str) -> Path:
    """Return the path of a rung's rows: data/heldout/prompts/sft/chat.jsonl."""
    kind, *rest = measure.partition(":")[0].split("/")
    return folders[kind].joinpath(*rest, f"{rung}.jsonl")


def read(params: Params, folders: dict[str, Path], metrics: Path) -> Table:
    """Read every rung's scores by (measure, rung), for the measures of the claims; missing files are left out."""
    table: Table = {}
    for name in dict.fromkeys(claim.measure for claim in params.claims):
        for rung in params.rungs:
            if name == REWARD:
                ledger = read_json(path) if (path := metrics / f"{rung}.json").is_file() else {}
                if ledger.get("method") == REWARD:
                    table[name, rung] = reward_standing(ledger, path)
            elif (path := rows_of(folders, name, rung)).is_file():
                rows, (_, measure) = read_rows(path), parsed(name)
                # The reference has no margin against itself (it is 0), so stage accuracy leaves it out.
                if measure is not MEASURES["accuracy"]["relative"] or "relative_margin" in rows[0]:
                    table[name, rung] = scores(rows, measure, path)
    return table


def reward_standing(ledger: dict[str, Any], path: Path) -> Standing:
    """Read a reward model's held-out accuracy with its interval, in percent."""
    try:
        return Standing(*(float(ledger[f"heldout_{end}"]) for end in ("accuracy", "low", "high")))
    except (KeyError, TypeError):
        raise UserError(f"{path}: expected numbers as heldout_accuracy, heldout_low and heldout_high") from None


def standing(seen: Scores | Standing) -> Standing:
    """Return the value and the interval of scores."""
    return seen if isinstance(seen, Standing) else Standing(seen.mean, *seen.interval)


def judge(claim: Claim, table: Table, folders: dict[str, Path], metrics: Path) -> dict[str, Any]:
    """Evaluate a claim: its two values, their difference with interval and p, and the verdict."""
    second = found(claim, claim.rung, table, folders, metrics)
    if claim.against != CHANCE:
        first = found(claim, claim.against, table, folders, metrics)
    else:
        first = second.chance if isinstance(second, Scores) else Standing(50.0, 50.0, 50.0)
    difference = _against(claim, first, second)
    verdict = said(difference["verdict"], claim)
    return {
        **claim.model_dump(),
        "value": _rounded(standing(second)),
        "against_value": _rounded(standing(first)),
        **{key: round(difference[key], 4) for key in ("difference", "low", "high")},
        "p": difference["p"] if difference["p"] is None else float(f"{difference['p']:.3g}"),
        "prompts": len(second.ids) if isinstance(second, Scores) else None,
        "verdict": verdict,
        "holds": verdict in ("learned", "better", "not worse beyond noise"),
    }


def found(claim: Claim, rung: str, table: Table, folders: dict[str, Path], metrics: Path) -> Scores | Standing:
    """Return a rung's scores on the claim's measure. Errors: UserError naming the file that is missing or lacks it."""
    if (claim.measure, rung) in table:
        return table[claim.measure, rung]
    path = metrics / f"{rung}.json" if claim.measure == REWARD else rows_of(folders, claim.measure, rung)
    if path.is_file():
        raise UserError(
            f"{path}: it has no {claim.measure}; a reference has no margin against itself (compare with {CHANCE}, or "
            f"by accuracy:normalised), and only a reward model has a {REWARD}"
        )
    raise UserError(f"{path}: no such file; a claim of guide compares {rung} on {claim.measure}")


def _against(claim: Claim, first: Scores | Standing, second: Scores | Standing) -> dict[str, Any]:
    if isinstance(first, Scores) and isinstance(second, Scores):
        try:
            return dict(compare(first, second))
        except ValueError:
            raise UserError(
                f"{claim.measure}: {claim.rung} and {claim.against} were not measured on the same rows; "
                "`dvc repro` measures both anew"
            ) from None
    first, second = standing(first), standing(second)
    verdict = "better" if second.low > first.value else "worse" if second.high < first.value else "not distinguishable"
    ends = {key: end - first.value for key, end in zip(("difference", "low", "high"), second, strict=True)}
    return {**ends, "p": None, "verdict": verdict}


def said(verdict: str, claim: Claim) -> str:
    """Translate the comparison's verdict into the words of the claim."""
    if claim.not_worse:
        return {"not distinguishable": "not worse beyond noise"}.get(verdict, verdict)
    return {"better": "learned"}.get(verdict, verdict)


def _rounded(seen: Standing) -> list[float]:
    return [round(number, 4) for number in seen]


def line(rung: str, table: Table, metrics: Path) -> dict[str, Any]:
    """Build a rung's row of guide.json from the available ledger fields and measures."""
    path = metrics / f"{rung}.json"
    ledger = read_json(path) if path.is_file() else {}
    measured = {name: _rounded(standing(seen)) for (name, of), seen in table.items() if of == rung}
    return {**{key: ledger[key] for key in LEDGER if ledger.get(key) not in (None, "")}, "measures": measured}


def markdown(claims: list[dict[str, Any]], lines: dict[str, dict[str, Any]]) -> str:
    """Build the page: the claims, the rungs and a description of the measures."""
    names = list(dict.fromkeys(claim["measure"] for claim in claims))
    holding = sum(claim["holds"] for claim in claims)
    head = ["rung", "against", "measure", "value", "against's", "difference", "p", "prompts", "verdict"]
    ledger = ["rung", "method", "parent", "trainable", "seconds", "memory GB", "tokens/s"]
    return (
        f"# What each rung learned\n\n{holding} of {len(claims)} claims hold; few prompts tell only a large "
        "difference from noise.\n\n"
        + _table(head, [claim_cells(claim) for claim in claims])
        + f"\n{NOTE}\n\n## The rungs\n\n"
        + _table([*ledger, *names], [rung_cells(rung, line, names) for rung, line in lines.items()])
        + "\n## The measures\n\n"
        + "".join(f"- `{name}`: {described(name)}\n" for name in names)
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return table(head, rows, rule=[" --- "] * len(head)) + "\n"


def claim_cells(claim: dict[str, Any]) -> list[str]:
    """Format a claim's row of the table."""
    digits = _digits(claim["measure"])
    against = "50.0" if claim["against"] == CHANCE else _bounds(claim["against_value"], digits)
    difference = f"{claim['difference']:+.{digits}f} [{claim['low']:.{digits}f}, {claim['high']:.{digits}f}]"
    p = "" if claim["p"] is None else f"{claim['p']:.2g}"
    said = claim["verdict"] if claim["holds"] else Markdown(f"**{claim['verdict']}**")
    value, prompts = _bounds(claim["value"], digits), claim["prompts"] or ""
    return [claim["rung"], claim["against"], claim["measure"], value, against, difference, p, str(prompts), said]


def rung_cells(rung: str, line: dict[str, Any], names: list[str]) -> list[str]:
    """Format a rung's row of the table."""
    learned, all_of_it = line.get("trainable_parameters"), line.get("parameters")
    trainable = f"{learned / 1e6:.3g} M ({100 * learned / all_of_it:.3g}%)" if learned and all_of_it else ""
    costs = [f"{line[key]:.{places}f}" if key in line else "" for key, places in COSTS.items()]
    measured = line["measures"]
    values = [_bounds(measured[name], _digits(name)) if name in measured else "" for name in names]
    return [rung, line.get("method", ""), line.get("parent", ""), trainable, *costs, *values]


def described(name: str) -> str:
    """Describe a measure: title, unit and direction."""
    if name == REWARD:
        return "held-out pairs whose chosen answer the reward model scores higher, % (Wilson's interval); chance is 50"
    _, measure = parsed(name)
    return f"{measure.title}, {measure.unit}; better {measure.better}"


def _digits(name: str) -> int:
    return 1 if name == REWARD or parsed(name)[1].share else 3


def _bounds(ends: list[float], digits: int) -> str:
    return "{:.{n}f} [{:.{n}f}, {:.{n}f}]".format(*ends, n=digits)


def main(
    params: Params,
    heldout: Path,
    accuracy: Path,
    divergence: Path,
    metrics: Path,
    output: Path,
    summary: Path,
    points: Path,
) -> None:
    """Evaluate the claims; write the report to `output` (Markdown), `summary` (JSON) and `points` (TSV).

    heldout, accuracy, divergence: folders of measured rows. metrics: folder of the rungs' ledgers.
    Errors: UserError when a measurement of a claim is missing.
    """
    folders = {"heldout": heldout, "accuracy": accuracy, "divergence": divergence}
    table = read(params, folders, metrics)
    claims = [judge(claim, table, folders, metrics) for claim in params.claims]
    lines = {rung: line(rung, table, metrics) for rung in params.rungs}
    text = markdown(claims, lines)
    write_text(output, text)
    write_json(summary, {"claims": claims, "rungs": lines})
    rows = [[rung, name, *map(str, ends)] for rung, row in lines.items() for name, ends in row["measures"].items()]
    write_text(points, "".join("\t".join(row) + "\n" for row in [["rung", "measure", "value", "low", "high"], *rows]))
    print(text)


if __name__ == "__main__":
    run(main)
