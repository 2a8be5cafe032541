"""Summary of report/table.json for a terminal: scores in columns that fit; what improved, by how much, in what time.

The functions read the file's content alone and need no numpy, so a command prints the summary within milliseconds.
"""

from collections.abc import Iterator, Mapping, Sequence
from textwrap import fill
from typing import Any, NamedTuple

from ladder.data.markdown import text_table

LISTED = 5
"""Maximum number of comparisons or rungs that one sentence lists."""
LEGEND = (
    "Score [95% CI] and change from the baseline, the rung's parent. * marks changes that are improved or regressed "
    "after Holm's correction."
)


class Compared(NamedTuple):
    """Comparison of a rung with its baseline on one benchmark, as table.json has it."""

    rung: str
    baseline: str
    benchmark: str
    change: Mapping[str, Any]
    unit: str

    @property
    def pair(self) -> str:
        return f"{self.rung} against {self.baseline} on {self.benchmark}"

    @property
    def amount(self) -> str:
        """Difference with its interval and its test: "+4.9 [-1.3, 11.5], p (Holm) 0.7, n 64"."""
        low, high = (_number(self.change[end], self.unit) for end in ("low", "high"))
        difference = _number(self.change["difference"], self.unit, "+")
        return f"{difference} [{low}, {high}], p (Holm) {self.change['p_holm']:.2g}, n {self.change['n']}"


def short_table(lines: Sequence[Mapping[str, Any]], width: int) -> str:
    """Format the scores in blocks of benchmarks, each at most `width` columns wide where one benchmark allows it.

    lines: content of table.json.
    """
    names = list(lines[0]["benchmarks"])
    blocks, shown = [], [["rung", *(line["rung"] for line in lines)]]
    for name in names:
        column = [_title(name, lines), *(_cell(line["benchmarks"][name]) for line in lines)]
        if len(shown) > 1 and _width([*shown, column]) > width:
            blocks.append(shown)
            shown = shown[:1]
        shown = [*shown, column]
    blocks.append(shown)
    return "\n\n".join(text_table(list(zip(*block, strict=True))) for block in blocks)


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _title(name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    made_by = lines[0]["benchmarks"][name]["made_by"]
    unit = made_by["headline"]["unit"]
    return f"{name}{'' if unit == '%' else f' ({unit})'}, n {made_by['rows']}"


def _cell(result: Mapping[str, Any]) -> str:
    unit, change = result["made_by"]["headline"]["unit"], result["against_baseline"]
    low, high = (_number(end, unit) for end in result["interval"])
    text = f"{_number(result['score'], unit)} [{low}, {high}]"
    if change is None:
        return text
    mark = "*" if change["verdict"] in ("improved", "regressed") else ""
    return f"{text} {_number(change['difference'], unit, '+')}{mark}"


def _number(value: float, unit: str, sign: str = "") -> str:
    """Format a number as the table does: one decimal for a percentage, else two."""
    return f"{value:{sign}.{1 if unit == '%' else 2}f}"


def findings(lines: Sequence[Mapping[str, Any]], costs: Mapping[str, Mapping[str, Any]], width: int) -> str:
    """State what improved over its baseline, by how much, and how long the rungs took, one paragraph each.

    lines: content of table.json. costs: {rung: {seconds}} as recorded; rungs without a record are left out.
    """
    compared = list(_compared(lines))
    improved = [one for one in compared if one.change["verdict"] == "improved"]
    regressed = [one for one in compared if one.change["verdict"] == "regressed"]
    count = f"{len(compared)} comparison{'' if len(compared) == 1 else 's'}"
    sentences = []
    if not compared:
        sentences.append("No rung was compared: no rung's baseline is in the table.")
    elif not improved:
        sentences.append(f"No rung improved over its baseline, after Holm's correction for {count}.")
        sentences += [f"The smallest p: {_smallest(compared)}."] if not regressed else []
    else:
        sentences.append(f"Improved, after Holm's correction for {count}: {_pairs(improved)}.")
        sentences.append(f"By how much: {_amounts(improved)}.")
    if regressed:
        sentences.append(f"Regressed: {_pairs(regressed)}: {_amounts(regressed)}.")
    sentences.append(_time([line["rung"] for line in lines], [one.rung for one in improved], costs))
    return "\n".join(fill(sentence, width, subsequent_indent="  ") for sentence in sentences if sentence)


def _compared(lines: Sequence[Mapping[str, Any]]) -> Iterator[Compared]:
    for line in lines:
        for name, result in line["benchmarks"].items():
            if result["against_baseline"] is not None:
                unit = result["made_by"]["headline"]["unit"]
                yield Compared(line["rung"], line["baseline"], name, result["against_baseline"], unit)


def _smallest(compared: Sequence[Compared]) -> str:
    one = min(compared, key=lambda each: each.change["p"])
    return f"{one.pair}, {one.amount}"


def _pairs(compared: Sequence[Compared]) -> str:
    return _listed([one.pair for one in compared])


def _amounts(compared: Sequence[Compared]) -> str:
    return _listed([one.amount for one in compared], "; ")


def _listed(texts: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return between.join(texts[:LISTED]) + more


def _time(rungs: Sequence[str], improved: Sequence[str], costs: Mapping[str, Mapping[str, Any]]) -> str:
    """State the training time of the improved rungs, or of all, and their sum over all rungs of the table."""
    known = {rung: costs[rung]["seconds"] for rung in rungs if costs.get(rung, {}).get("seconds") is not None}
    if not known:
        return ""
    shown = [rung for rung in known if rung in improved] or list(known)
    each = _listed([f"{rung} {known[rung]:.0f} s" for rung in shown])
    whole = f"; all {len(known)} rungs {sum(known.values()):.0f} s" if len(shown) < len(known) else ""
    return f"Time to make: {each}{whole}."
