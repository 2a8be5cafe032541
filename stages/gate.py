"""Regression gate: the loss that a rung may have against another rung, or against itself at a git revision.

An example is the alignment tax: a DPO rung against its SFT parent on code and maths. A row fails when the loss
significantly exceeds the allowed loss: the whole 95% interval is above it and the paired test gives p < 0.05. `strict`
also fails when the interval does not exclude a larger loss; with few prompts this cannot pass.

A gate that fails prints its table, keeps both output files, and ends with exit code 1. DVC records nothing for a failed
stage. The next `dvc repro` runs the gate again, and `dvc repro --keep-going` runs the stages that do not depend on it.

python -m stages.gate tax data/benchmark data/lm_eval data/heldout report/gate/tax.md report/gate/tax.json \
    metrics/gate/tax.json
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ladder.data.jsonl import read_json, read_rows, write_json, write_text
from ladder.data.markdown import table
from ladder.eval.compare import HELDOUT, Change, compare, recorded, solved
from ladder.eval.measures import rows_path
from ladder.eval.revisions import Revision
from ladder.pipeline.stage import Config, UserError, run
from ladder.statistics import REGRESSED, wilson

FEW = 5
VERDICTS = ("held", "lost too much", "may have lost too much", "no signal")
NOTE = (
    "A loss is of the same n prompts, with its 95% bootstrap confidence interval (CI) over them; where fewer than "
    "five changed, its upper end is Wilson's for the share of prompts that lose. *Lost too much*: the interval lies "
    "beyond the allowed loss, and the paired test gives p < 0.05. *May have lost too much*: the interval reaches "
    "beyond. Rows are judged one by one: of forty that lose exactly the allowed amount, one is expected to fail by "
    "chance. *No signal*: neither rung solved any prompt, so this benchmark shows neither a loss nor that there is "
    "none."
)


class Params(Config):
    rung: str
    """Rung to judge: `dpo/chat`."""
    against: str
    """Baseline: another rung, for example its parent, or a git revision at which the rung itself was measured.

    DVC does not detect that a branch has moved: name a tag or a commit, or run `dvc repro --force gate@…`.
    """
    allowed: dict[str, Annotated[float, Field(ge=0)]] = Field(min_length=1)
    """Allowed loss in points of the benchmark's score, 0 or more: `ifeval: 3`, `heldout/problems/maths-heldout: 5`."""
    strict: bool = False
    """Also fail when there are too few prompts to exclude a larger loss, when a benchmark was not scored, and when
    neither rung solved any of its prompts."""


@dataclass(frozen=True)
class Judged:
    """Result of one benchmark."""

    change: Change
    allowed: float
    same: bool
    """Whether both files hold identical rows."""

    @property
    def loss(self) -> tuple[float, float, float]:
        """Loss and its 95% interval. Fewer than five changed prompts are too few for the bootstrap: the upper end is
        then at least Wilson's upper bound of the share of prompts that lose."""
        change = self.change
        if change.better == "higher":
            lost, least, most = -change.difference, -change.high, -change.low
        else:
            lost, least, most = change.difference, change.low, change.high
        if change.share and change.gained + change.lost < FEW and not self.same:
            most = max(most, 100 * wilson(change.lost, change.prompts)[1])
        return lost + 0.0, least + 0.0, most + 0.0

    @property
    def verdict(self) -> str:
        """One of "no signal", "lost too much", "may have lost too much" and "held"."""
        _, least, most = self.loss
        if self.change.share and self.change.better == "higher" and self.change.first == self.change.second == 0:
            return "no signal"
        if least > self.allowed and self.change.verdict == REGRESSED:
            return "lost too much"
        return "may have lost too much" if most > self.allowed else "held"


def rows_of(title: str, folders: dict[str, Path], rung: str) -> Path:
    """Return the path of a rung's rows for a name in `allowed`.

    folders: the folder "heldout", and that of each benchmark and task of lm-eval by its name.
    """
    if title.startswith("heldout/"):
        return rows_path(folders, title, rung)
    return folders.get(title, folders["benchmark"] / title) / f"{rung}.jsonl"


def revision(params: Params, folders: dict[str, Path]) -> Revision | None:
    """Return the revision to compare with, or None when `against` is a measured rung. Errors: UserError for neither."""
    if any(rows_of(title, folders, params.against).is_file() for title in params.allowed):
        return None
    try:
        return Revision(params.against)
    except UserError as refusal:
        names = ", ".join(params.allowed)
        raise UserError(
            f"against: {params.against!r} is no rung with rows of {names}, and as a revision: {refusal}"
        ) from None


def unscored(params: Params, folders: dict[str, Path]) -> dict[str, str]:
    """Return {benchmark: reason} for the benchmarks that the machine could not score for this rung."""
    files = {title: rows_of(title, folders, params.rung).with_suffix(".json") for title in params.allowed}
    return {title: why for title, path in files.items() if path.is_file() and (why := read_json(path).get("absent"))}


def judge(params: Params, titles: list[str], folders: dict[str, Path], past: Revision | None) -> list[Judged]:
    """Compare the rung on these benchmarks. Errors: UserError when rows are missing or have no prompt in common."""
    judged = []
    for title in titles:
        allowed, path = params.allowed[title], rows_of(title, folders, params.rung)
        second = read_rows(path)
        first = past.rows(path.as_posix()) if past else read_rows(rows_of(title, folders, params.against))
        same = first == second
        if title.startswith("heldout/"):
            of, first, second = HELDOUT, solved(first, f"{title} {params.against}"), solved(second, str(path))
        else:
            summary = path.with_suffix(".json")
            of = recorded(read_json(summary), str(summary))
        judged.append(Judged(compare(first, second, of, title=title, rung=params.rung), allowed, same))
    return judged


def cells(row: Judged) -> list[str]:
    """Format the cells of a table row."""
    change, digits = row.change, 1 if row.change.share else 2
    lost, least, most = row.loss
    loss = f"{lost:.{digits}f} [{least:.{digits}f}, {most:.{digits}f}]"
    prompts = f"{change.prompts}" if change.prompts == change.of else f"{change.prompts} of {change.of}"
    scores = [f"{score:.{digits}f}" for score in (change.first, change.second)]
    return [change.title, *scores, loss, f"{change.p:.2g}", prompts, f"{row.allowed:g}", row.verdict]


def markdown(params: Params, judged: list[Judged], lacking: dict[str, str]) -> str:
    """Build the table with its note, and list what could not be judged."""
    head = ["benchmark", params.against, params.rung, "loss [95% CI]", "p", "n", "allowed", "verdict"]
    made = table(head, map(cells, judged), rule=[" --- "] * len(head))
    reported = "".join(f"\n{title}: not judged: {why}\n" for title, why in lacking.items())
    return f"# {params.rung} against {params.against}\n\n{made}\n{reported}\n{NOTE}\n"


def summary(row: Judged) -> dict[str, Any]:
    """Return a row's numbers for the JSON file."""
    change = row.change
    numbers = {name: round(end, 4) for name, end in zip(("loss", "low", "high"), row.loss, strict=True)}
    p = float(f"{change.p:.3g}")
    return {**numbers, "p": p, "allowed": row.allowed, "n": change.prompts, "verdict": row.verdict}


def main(
    params: Params, benchmark: Path, lm_eval: Path, heldout: Path, output: Path, summary_out: Path, metrics: Path, *,
    tasks: list[str],
) -> None:  # fmt: skip
    """Judge the rung; write the table to `output` (Markdown) and `summary_out` (JSON).

    benchmark, lm_eval, heldout: folders of measured rows. tasks: the entries of lm_eval. metrics: counts of the judged
    benchmarks and of those in each verdict.
    Errors: UserError when the gate fails or no benchmark was scored; with `strict`, when any was not scored.
    """
    folders = {"benchmark": benchmark, "heldout": heldout} | {name: lm_eval / name for name in tasks}
    past = revision(params, folders)
    lacking = unscored(params, folders)
    judged = judge(params, [title for title in params.allowed if title not in lacking], folders, past)
    text = markdown(params, judged, lacking)
    made_by = {**params.model_dump(exclude={"allowed"}), "commit": past.commit if past else None}
    write_text(output, text)
    absent = {title: {"absent": why} for title, why in lacking.items()}
    write_json(summary_out, {**{row.change.title: summary(row) for row in judged}, **absent, "made_by": made_by})
    verdicts = [row.verdict for row in judged]
    write_json(metrics, {"judged": len(judged), **{name.replace(" ", "_"): verdicts.count(name) for name in VERDICTS}})
    print(text)
    if lacking and (params.strict or not judged):
        raise UserError(f"{params.rung}: not judged: {'; '.join(f'{title}: {why}' for title, why in lacking.items())}")
    fatal = ("lost too much", "may have lost too much", "no signal") if params.strict else ("lost too much",)
    if failed := [row for row in judged if row.verdict in fatal]:
        losses = (f"{row.change.title} {row.verdict}: {cells(row)[3]}, {row.allowed:g} allowed" for row in failed)
        raise UserError(f"{params.rung} against {params.against}: {'; '.join(losses)}")


if __name__ == "__main__":
    run(main, named=True, names={"tasks": "lm_eval"})
