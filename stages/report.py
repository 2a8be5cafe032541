"""Report of the ladder: a table of rungs by benchmark, with a test of every rung against its parent, and all answers.

Successful attacks on the refusal benchmarks have a page of their own.

python -m stages.report data/benchmark data/lm_eval data/provenance report metrics/report
"""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from ladder.data.atomic_write import published
from ladder.data.jsonl import Row, write_json, write_text
from ladder.eval.compare import Headline
from ladder.eval.results import Entry, absent, comparisons, read
from ladder.eval.scores import HEADLINES
from ladder.pipeline.stage import Config, UserError, run
from ladder.report.answers_page import Answer, Change, Mark, Part, Question, Standing, answers_page
from ladder.report.attacks_page import redteam_page
from ladder.report.rung_table import (
    Changes,
    check_block,
    comparison_rows,
    difference,
    line,
    note,
    page,
    pipeline_checks,
    plain,
    points,
    score,
    score_rows,
    sizes,
    title,
)


class Params(Config):
    """Benchmarks and rungs of the table; only these are answered and scored."""

    benchmarks: list[str] = Field(min_length=1)
    """Benchmarks in the table's order, modules of benchmarks/: `ifeval`. The tasks of `lm_eval` follow them."""
    rungs: list[str] = Field(min_length=1)
    """Rungs in the table's order: `base`, `sft/chat`."""
    headlines: list[str] = Field([], max_length=HEADLINES)
    """Benchmarks whose scores are in metrics/report, so in `dvc metrics show`; empty takes the first five."""
    examples: int = Field(5, ge=0)
    """Number of successful attacks per rung that redteam.md shows; 0 shows only the counts."""
    compare: list[tuple[str, str]] = []
    """Pairs of rungs of the table to compare besides each one with its parent: `[[sft/r64, sft/r16]]`.

    Holm's correction is over all comparisons, so each pair raises the bar for the others.
    """
    seeds: int = Field(1, ge=1, strict=True)
    """Number of seeds of data and training. Each rung is made again with other seeds, with all that it is made of.

    The table then has the mean and the range over seeds, and its intervals cover both kinds of variance.
    """

    @model_validator(mode="after")
    def check_pairs(self) -> Self:
        """Check that each pair of `compare` has two different rungs of the table."""
        for number, pair in enumerate(self.compare):
            if lost := [rung for rung in pair if rung not in self.rungs]:
                raise ValueError(f"compare[{number}]: expected rungs of report.rungs, got {lost[0]!r}. Add it there")
            if pair[0] == pair[1]:
                raise ValueError(f"compare[{number}]: expected two different rungs, got {pair[0]!r} twice")
        return self


def part(name: str, entries: dict[str, Entry], changes: Changes) -> Part:
    """Build a benchmark's section of the page of answers."""
    first = next(iter(entries.values()))
    made_by, headline = first.summary["made_by"], first.headline
    whole = 100.0 if headline.share else max(entry.interval[1] for entry in entries.values()) or 1.0
    standings = []
    for rung, entry in entries.items():
        found = changes.get((name, rung))
        low, high = entry.interval
        standings.append(
            Standing(
                rung,
                entry.baseline,
                score(entry),
                (100 * entry.score / whole, 100 * low / whole, 100 * high / whole),
                difference(found, headline) if found else "",
                found.verdict if found else "",
            )
        )
    heading = f"{title(entries)}: {made_by['rows']} of {made_by['of']}"
    return Part(name, heading, headline.share, standings, questions(entries))


def questions(entries: dict[str, Entry]) -> list[Question]:
    """Return every question with all answers; each answer is marked with its change against the parent's."""
    asked = []
    for rows in zip(*(entry.rows for entry in entries.values()), strict=True):
        of = dict(zip(entries, rows, strict=True))
        answers = [answer(of[rung], of.get(entry.baseline), entry.headline) for rung, entry in entries.items()]
        asked.append(Question(rows[0]["key"], rows[0]["group"], [rows[0]["prompt"], *rows[0]["follow_ups"]], answers))
    return asked


def answer(row: Row, parent: Row | None, headline: Headline) -> Answer:
    """Build one answer for the page."""
    return Answer(
        row["responses"][0],
        marks(row, headline),
        sum(row["tokens"]) if row["tokens"] else None,
        all(row["finished"]),
        headline.share and worth(row, headline) == 1,
        "" if parent is None else turned(row, parent, headline),
        len(row["responses"]),
    )


def worth(row: Row, headline: Headline) -> float | None:
    """Return the row's own score: the mean over the headline's measures with a nonzero weight; None without one."""
    pairs = [row["measures"][name] for name in headline.measures]
    ratios = [value / weight for value, weight in pairs if weight]
    return sum(ratios) / len(ratios) if ratios else None


def turned(row: Row, parent: Row, headline: Headline) -> Change:
    """Classify the change of an answer against the parent's: "gained", "lost", "changed" or ""."""
    now, before = worth(row, headline), worth(parent, headline)
    if now is None or before is None or now == before:
        return "changed" if marks(row, headline) != marks(parent, headline) else ""
    if headline.share and 1 not in (now, before):
        return "changed"
    return "gained" if (now > before) == (headline.better == "higher") else "lost"


def marks(row: Row, headline: Headline) -> list[Mark]:
    """Return the benchmark's verdicts on the answer, or else the values of the headline's measures."""
    if "verdicts" in row:
        return [mark(name, verdict) for name, verdict in row["verdicts"]]
    found_marks = []
    for name in headline.measures:
        value, weight = row["measures"][name]
        share = headline.share and weight and value in (0, weight)
        found_marks.append(mark(name, value > 0 if share else value / weight if weight else "not counted"))
    return found_marks


def mark(name: str, verdict: bool | float | str) -> Mark:
    """Build the mark of one verdict for the page of answers."""
    if isinstance(verdict, bool):
        return Mark(name, "passed" if verdict else "failed")
    if verdict == "loosely":
        return Mark(name, "loosely")
    return Mark(name, value=verdict if isinstance(verdict, str) else f"{verdict:.4g}")


def write_headlines(output: Path, lines: list[Row], names: list[str]) -> None:
    """Write each rung's score on each of these benchmarks to <rung>.json in the folder `output`."""
    with published(output) as folder:
        for one in lines:
            scores = {name: result["score"] for name, result in one["benchmarks"].items() if name in names}
            write_json(folder / f"{one['rung']}.json", scores)


def main(
    params: Params, scored: Path, lm_eval: Path, provenance: Path, output: Path, metrics: Path,
    *, tasks: list[str], measured: list[str],
) -> None:  # fmt: skip
    """Read every rung on every benchmark, compare, and write the table, the plot's points and both pages of answers.

    scored, lm_eval: folders with the results of benchmarks and of lm-eval's tasks. provenance: folder with the origin
    of the rungs. metrics: folder of the headline scores by rung. tasks: the entries of lm_eval. measured: the rungs
    with their replicas.
    """
    folders = {name: scored / name for name in params.benchmarks} | {name: lm_eval / name for name in tasks}
    if unknown := sorted(set(params.headlines) - set(folders)):
        raise UserError(
            f"report.headlines: expected benchmarks of the table ({', '.join(folders)}), got {unknown[0]!r}"
        )
    lacking = absent(folders, measured)
    if not (folders := {name: folder for name, folder in folders.items() if name not in lacking}):
        raise UserError(f"nothing to show: {'; '.join(f'{name}: not scored: {why}' for name, why in lacking.items())}")
    found = read(folders, provenance, measured)
    checks = pipeline_checks(found)
    compared = {name: entries for name, entries in found.items() if name not in checks}
    changes, pairs = comparisons(compared, params.compare)
    lines = [line(rung, found, changes, pairs) for rung in params.rungs]
    scores, tests = score_rows(lines, compared), comparison_rows(compared, changes, pairs)
    heading = f"The ladder on {', '.join(folders)}"
    described = " ".join([sizes(compared), *(f"{name}: not scored: {why}." for name, why in lacking.items())])
    parts = [part(name, entries, changes) for name, entries in found.items()]
    write_text(output / "table.md", page(heading, described, scores, tests, note(found), check_block(checks)))
    write_json(output / "table.json", lines)
    write_text(output / "rungs.tsv", "".join("\t".join(point) + "\n" for point in points(found)))
    write_text(output / "answers.html", answers_page(heading, f"{described} {note(found)}", parts))
    write_text(output / "redteam.md", redteam_page(found, params.examples))
    write_headlines(metrics, lines, params.headlines or list(folders)[:HEADLINES])
    print(f"{heading}\n\n{plain(scores)}\n\n{described}\n\n{plain(tests)}")


if __name__ == "__main__":
    run(main, names={"tasks": "lm_eval", "measured": "rungs.report"})
