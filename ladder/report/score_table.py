"""Table of scores over several revisions: one row per revision and rung, for a terminal, as Markdown, CSV or JSON.

Differences from a baseline are unpaired comparisons of scores with intervals (ladder/eval/unpaired.py), because git
keeps no answers. Scores that were made under different settings have different letters and are not compared.
"""

import string
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ladder.pipeline.errors import UserError
from ladder.pipeline.git_history import resolve
from ladder.pipeline.names import did_you_mean
from ladder.report.revision_scores import UNKNOWN, Line, Score, Scores, scores, shown_value

COLUMNS = 6
"""Maximum number of columns of parameters in a table for readers; CSV and JSON have all."""
Unpaired = Any
"""ladder.eval.unpaired.Unpaired, which is imported only where something is compared."""


@dataclass
class ScoreTable:
    """Scores with their order and their differences from a baseline.

    found: the lines that are shown. everything: all lines, with rungs that are not shown. baseline: a rung or a
    revision. base_lines: the lines of a baseline that is a revision. sort: benchmark whose best score comes first.
    """

    found: Scores
    everything: Scores
    baseline: str | None = None
    base_lines: tuple[Line, ...] = ()
    sort: str | None = None
    apart: list[str] = field(default_factory=list)
    """Scores that were not compared, with reasons; filled by `changes`."""

    @cached_property
    def lines(self) -> list[Line]:
        """The rows. Errors: UserError for a benchmark to sort by that no table has."""
        if self.sort is None:
            return self.found.lines
        if self.sort not in self.found.benchmarks:
            near = did_you_mean(self.sort, self.found.benchmarks)
            known = ", ".join(self.found.benchmarks)
            raise UserError(f"--sort: {self.sort}: not in these tables{near}; expected one of {known}")
        return sorted(self.found.lines, key=lambda line: _rank(line.scores.get(str(self.sort))))

    @cached_property
    def params(self) -> list[str]:
        """The parameters that differ between revisions."""
        return self.found.differing()

    @cached_property
    def marks(self) -> dict[str, dict[str, str]]:
        """Letters of settings by benchmark and digest, for benchmarks that were measured under several settings.

        Settings that are not recorded have a question mark.
        """
        found: dict[str, dict[str, str]] = {}
        for name in self.found.benchmarks:
            digests = list(dict.fromkeys(score.digest for score in self._all(name)))
            known = [each for each in digests if each != UNKNOWN]
            letters = {each: _letter(place) for place, each in enumerate(known)} if len(digests) > 1 else {}
            if UNKNOWN in digests:
                letters[UNKNOWN] = "?"
            if letters:
                found[name] = letters
        return found

    def _all(self, name: str) -> list[Score]:
        """Return the scores of a benchmark, first those of the baseline."""
        bases = [base for line in self.found.lines if (base := self.base_of(line))]
        return [line.scores[name] for line in [*bases, *self.found.lines] if name in line.scores]

    def base_of(self, line: Line) -> Line | None:
        """Return the line that another one is compared with; None for the baseline itself, or without one."""
        if self.base_lines:
            found = next((base for base in self.base_lines if base.rung == line.rung), None)
        else:
            sisters = (each for each in self.everything.lines if each.revision == line.revision)
            found = next((base for base in sisters if base.rung == self.baseline), None)
        return None if found is None or (found.rung, found.revision) == (line.rung, line.revision) else found

    def mark(self, score: Score) -> str:
        """Return the letter of a score's settings; empty if its benchmark has one setting."""
        return self.marks.get(score.benchmark, {}).get(score.digest, "")

    def settings_notes(self) -> list[str]:
        """Describe what differs between the settings of each benchmark."""
        from ladder.eval.diff import other_settings

        notes = []
        for name, letters in self.marks.items():
            by_digest = {score.digest: score.settings or {} for score in reversed(self._all(name))}
            known = [each for each in letters if each != UNKNOWN]
            for each in known[1:]:
                said = other_settings(by_digest[known[0]], by_digest[each])
                notes.append(f"{name} {letters[known[0]]} -> {letters[each]}: {said}")
        return notes

    @cached_property
    def changes(self) -> dict[tuple[str, str, str], Unpaired]:
        """Differences from the baseline by revision, rung and benchmark, with Holm's correction over all of them."""
        if self.baseline is None:
            return {}
        from ladder.eval import unpaired
        from ladder.eval.compare import Apart

        compared = {}
        for line, first, second in self._pairs():
            place = f"{line.revision.label} {line.rung} {second.benchmark}"
            if first.settings is None or first.digest != second.digest:
                why = "settings not recorded" if None in (first.settings, second.settings) else "different settings"
                self.apart.append(f"{place}: {why}")
                continue
            try:
                sides = (_summary(unpaired, first), _summary(unpaired, second))
                found = unpaired.compare(second.benchmark, line.rung, *sides)
            except Apart as reason:
                self.apart.append(f"{line.revision.label}: {reason}")
                continue
            compared[line.revision.label, line.rung, second.benchmark] = found
        return dict(zip(compared, unpaired.corrected(list(compared.values())), strict=True))

    def _pairs(self) -> Iterator[tuple[Line, Score, Score]]:
        """Iterate over (line, score of the baseline, score) of all lines that have a baseline."""
        for line in self.lines:
            if base := self.base_of(line):
                for name, score in line.scores.items():
                    if name in base.scores:
                        yield line, base.scores[name], score


def _summary(unpaired: Any, score: Score) -> Any:
    return unpaired.Summary(score.score, score.low, score.high, score.n, score.unit, score.better)


def _rank(score: Score | None) -> tuple[bool, float]:
    if score is None:
        return True, 0.0
    return False, -score.score if score.better == "higher" else score.score


def _letter(place: int) -> str:
    letters = string.ascii_lowercase
    return letters[place] if place < len(letters) else f"{letters[place // len(letters) - 1]}{place % len(letters)}"


def with_baseline(found: Scores, everything: Scores, baseline: str | None, sort: str | None) -> ScoreTable:
    """Return the table with differences from a baseline: a rung of these tables, or a revision.

    Errors: UserError for a name that is neither, or both.
    """
    if baseline is None:
        return ScoreTable(found, everything, sort=sort)
    lines = tuple(line for line in everything.lines if line.revision.label == baseline)
    if baseline in everything.rungs:
        if lines:
            raise UserError(f"--compare: {baseline}: a rung and a revision; expected one. Give the revision's commit")
        return ScoreTable(found, everything, baseline, (), sort)
    return ScoreTable(found, everything, baseline, lines or _lines_of(baseline, everything), sort)


def _lines_of(baseline: str, everything: Scores) -> tuple[Line, ...]:
    """Return the lines of a baseline that is a revision, from these tables if they have its commit."""
    try:
        point = resolve(baseline)
    except UserError:
        near = did_you_mean(baseline, [*everything.rungs, *(point.label for point in everything.points)])
        raise UserError(
            f"--compare: {baseline}: no such rung or revision{near}; expected a rung of these tables, a commit, tag, "
            "branch, experiment or workspace"
        ) from None
    known = tuple(line for line in everything.lines if line.revision.commit == point.commit)
    return known or tuple(scores([baseline]).lines)


def number(value: float, unit: str, sign: str = "") -> str:
    """Format a number: one decimal for a percentage, else two."""
    return f"{value:{sign}.{1 if unit == '%' else 2}f}"


def cell(table: ScoreTable, line: Line, name: str) -> str:
    """Format a score with its interval, the letter of its settings and its difference; empty if it was not measured."""
    score = line.scores.get(name)
    if score is None:
        return ""
    low, high = number(score.low, score.unit), number(score.high, score.unit)
    text = f"{number(score.score, score.unit)} [{low}, {high}]"
    if score.seeds > 1:
        text += f" ({score.seeds} seeds)"
    if score.n != common_n(table, name):
        text += f" n {'?' if score.n is None else score.n}"
    if letter := table.mark(score):
        text += f" {letter}"
    change = table.changes.get((line.revision.label, line.rung, name))
    if change is not None:
        ends = f"[{number(change.low, change.unit)}, {number(change.high, change.unit)}]"
        text += f" {number(change.difference, change.unit, '+')} {ends}" + ("*" if change.holm < 0.05 else "")
    return text


def common_n(table: ScoreTable, name: str) -> int | None:
    """Return the number of questions that most scores of a benchmark have."""
    counts = [line.scores[name].n for line in table.found.lines if name in line.scores]
    return max(dict.fromkeys(counts), key=counts.count)


def title(table: ScoreTable, name: str) -> str:
    """Format a benchmark's name with its unit where that is not percent, and its number of questions."""
    score = next(line.scores[name] for line in table.found.lines if name in line.scores)
    n = common_n(table, name)
    return f"{name}{'' if score.unit == '%' else f' ({score.unit})'}{'' if n is None else f', n {n}'}"


def columns(table: ScoreTable) -> list[list[str]]:
    """Return the columns of texts with their heads: revision, rung, parameters, benchmarks."""
    params = table.params if len(table.params) <= COLUMNS else []
    found = [
        ["revision", *(line.revision.label for line in table.lines)],
        ["rung", *(line.rung for line in table.lines)],
    ]
    found += [[key, *(shown_value(line.params, key) for line in table.lines)] for key in params]
    names = sorted(table.found.benchmarks, key=lambda name: name != table.sort)  # what it is sorted by comes first
    return found + [[title(table, name), *(cell(table, line, name) for line in table.lines)] for name in names]


def notes(table: ScoreTable) -> list[str]:
    """Return what a reader has to know beside the table, one paragraph each."""
    said = ["Score [95% CI]."]
    if table.changes:
        said[0] += (
            f" Then the difference from {table.baseline} [95% CI], unpaired (MOVER); * marks p (Holm) < 0.05. "
            "`ladder diff` compares question by question, where the answers are here."
        )
    if table.marks:
        said.append(
            "Letters mark different settings; scores with different letters are not comparable. ?: dvc.lock does not "
            "record the settings."
        )
        said += table.settings_notes()
    if table.apart:
        said.append(f"Not compared: {'; '.join(table.apart)}.")
    if len(table.params) > COLUMNS:
        listed = ", ".join(table.params[:COLUMNS])
        rest = len(table.params) - COLUMNS
        said.append(f"{len(table.params)} parameters differ, too many for columns: {listed} and {rest} more. "
                    "--format csv and json have all.")  # fmt: skip
    return said + revisions(table.found)


def revisions(found: Scores) -> list[str]:
    """Describe the revisions: date, subject, and those that are not shown."""
    said = []
    for point in found.points:
        alike = found.alike.get(point.label, [])
        more = f" (same in {len(alike)} more: {alike[0].label} to {alike[-1].label})" if alike[1:] else ""
        more = more or (f" (same in {alike[0].label})" if alike else "")
        if point.commit or more:
            said.append(" ".join(f"{point.label}: {point.kind} {point.date} {point.subject}".split()) + more)
    reasons: dict[str, list[str]] = {}
    for label, _, reason in (note.partition(" is not shown: ") for note in found.notes):
        reasons.setdefault(reason, []).append(label)
    return said + [f"not shown: {', '.join(labels)}: {reason}" for reason, labels in reasons.items()]
