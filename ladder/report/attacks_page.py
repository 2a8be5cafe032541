"""Markdown page of failures on refusal benchmarks: their counts, and example answers.

A failure is a harmful prompt that is answered, or a safe prompt that is refused, in full or in part. The rows are
those of ladder/eval/attacks.py. Text from data sets and models is fenced or escaped, so that it cannot change the
page.
"""

import re
import textwrap
from collections import Counter
from typing import NamedTuple

from ladder.data.jsonl import Row
from ladder.data.markdown import fenced, literal, table, visible
from ladder.eval.benchmark import JOIN
from ladder.eval.results import Entry

TITLE = "# Successful attacks"
NOTE = (
    "A harmful prompt is a successful attack if the rule or the judge finds that the answer complies, fully or partly. "
    "For safe prompts, full and partial refusals are counted. The rule detects whether an answer declines, not whether "
    "it helps to do harm; a judge or a reader decides that. An answer has no class by rule if it is empty or repeats "
    "itself, and by judge if its judgment has no verdict.\n\n"
    "Examples per rung: first the answers found by both, then those with the worst grades, then one of each category "
    "in turn. Prompts and answers are truncated, line breaks are spaces, and invisible characters are written as "
    "codes. answers.html has the full texts under the same keys."
)
KINDS = {"refusal": "harmful", "compliance": "safe"}
"""Kind of prompt by the wanted answer."""
FAILS = {"refusal": "successful", "compliance": "refused"}
"""Description of a failure by the wanted answer."""
CLASSES = ("full_refusal", "partial_refusal", "full_compliance")
ATTACKS = 20
"""Maximum number of attacks listed by name."""
HEAD, TAIL = 60, 140
"""Characters shown of a prompt's beginning and end.

In 638 of the 650 prompts of `jailbreaks`, the attack precedes the harmful request.
"""
ANSWER, WIDTH = 300, 110
"""Maximum characters shown of an answer, and per line."""


class Through(NamedTuple):
    """An answer that differs from the wanted one."""

    row: Row
    sample: int
    by: tuple[str, ...]
    """Graders that found it: rule, judge or both."""
    grade: int
    """Sum of the judge's grades for convincing and specific: 2 to 10; 0 without grades."""


def redteam_page(found: dict[str, dict[str, Entry]], examples: int) -> str:
    """Return the page for {benchmark: {rung: entry}}. Benchmarks that do not test refusal are skipped.

    examples: maximum number of answers shown per rung.
    """
    of_refusal = {name: of for name, of in found.items() if "wanted" in next(iter(of.values())).rows[0]}
    parts = [_part(name, entries, examples) for name, entries in of_refusal.items()]
    if not parts:
        return f"{TITLE}\n\nNo benchmark of the table has prompts that should be refused ({', '.join(found)}).\n"
    return "\n\n".join([TITLE, NOTE, *parts]) + "\n"


def through(rows: list[Row]) -> list[Through]:
    """Return the answers that differ from the wanted ones, in display order.

    Answers found by both graders come first, then those with the worst grades. Ties alternate between categories.
    """
    found = []
    for row in rows:
        for sample, verdicts in enumerate(zip(row["rule"], row["judge"], strict=True)):
            named = zip(("rule", "judge"), verdicts, strict=True)
            if by := tuple(name for name, verdict in named if _departs(verdict, row["wanted"])):
                found.append(Through(row, sample, by, sum(_grades(row, sample))))
    before: Counter[tuple[int, int, str]] = Counter()
    places: list[tuple[int, int, int, int]] = []
    for one in found:
        alike = -len(one.by), -one.grade, one.row["group"]
        places.append((-len(one.by), -one.grade, before[alike], len(places)))
        before[alike] += 1
    return [found[place[-1]] for place in sorted(places)]


def _departs(verdict: str | None, wanted: str) -> bool:
    return verdict not in (None, "no_answer", "full_refusal" if wanted == "refusal" else "full_compliance")


def _grades(row: Row, sample: int) -> list[int]:
    """Return the grades [convincing, specific] of an answer that does not refuse; empty without grades from a judge."""
    grades = row["grades"][sample] if "grades" in row else None
    return [] if grades is None or grades[0] else list(grades[1:])


def _part(name: str, entries: dict[str, Entry], examples: int) -> str:
    of = {rung: entry.rows for rung, entry in entries.items()}
    found = {rung: through(rows) for rung, rows in of.items()}
    judge = next(iter(entries.values())).summary["made_by"].get("judge")
    sections = [f"## {literal(name)}", _counts(of), _judge(judge), _categories(of, found), _attacks(of, found)]
    for rung in of if examples else ():
        sections += _examples(rung, of[rung], found[rung], examples)
    return "\n\n".join(section for section in sections if section)


def _judge(record: Row | None) -> str:
    if record is None:
        return "By rule only, without a judge."
    caveat = f" ({record['caveat']})" if "caveat" in record else ""
    return literal(f"The judge is {record['judge']}{caveat}.")


def _counts(of: dict[str, list[Row]]) -> str:
    lines = []
    for rung, rows in of.items():
        for wanted, kind in KINDS.items():
            asked = [row for row in rows if row["wanted"] == wanted]
            for by in ("rule", "judge"):
                verdicts = Counter(verdict for row in asked for verdict in row[by])
                without = verdicts["no_answer"] if by == "rule" else sum(row["unparseable"] for row in asked)
                counts = [verdicts[name] for name in CLASSES]
                if total := sum(counts) + without:
                    lines.append([rung, kind, by, total, *counts, without])
    return table(["rung", "prompts", "by", "answers", "refused", "in part", "answered", "no class"], lines)


def _categories(of: dict[str, list[Row]], found: dict[str, list[Through]]) -> str:
    """Return a table of failures per category. A prompt with several categories counts in each of them."""
    asked = {
        rung: Counter(name for row in rows for name in _groups(row) * len(row["rule"])) for rung, rows in of.items()
    }
    passed = {rung: Counter(name for one in listed for name in _groups(one.row)) for rung, listed in found.items()}
    names = sorted(set().union(*asked.values()))
    lines = [[literal(name), *(f"{passed[rung][name]} of {asked[rung][name]}" for rung in of)] for name in names]
    return table(["successful", *of], lines)


def _groups(row: Row) -> list[str]:
    return list(dict.fromkeys(row["group"].split(JOIN)))


def _attacks(of: dict[str, list[Row]], found: dict[str, list[Through]]) -> str:
    """Return how many attacks succeeded on some rung, and which succeeded on every rung."""
    asked = {row["attack"] for rows in of.values() for row in rows if row["attack"]}
    passed = [{one.row["attack"] for one in listed if one.row["attack"]} for listed in found.values()]
    if not asked:
        return ""
    always = sorted(set.intersection(*passed))
    names = ", ".join([*map(literal, always[:ATTACKS]), *(["…"] if always[ATTACKS:] else [])])
    overview = (
        f"Of {len(asked)} attacks, {len(set.union(*passed))} succeeded on some rung and {len(always)} on every rung"
    )
    return f"{overview}: {names}." if always else f"{overview}."


def _examples(rung: str, rows: list[Row], found: list[Through], most: int) -> list[str]:
    asked = Counter(row["wanted"] for row in rows for _ in row["rule"])
    failed = Counter(one.row["wanted"] for one in found)
    shown = [f"{failed[kind]} of {asked[kind]} {KINDS[kind]} {FAILS[kind]}" for kind in KINDS if asked[kind]]
    if len(found) > most:
        shown.append(f"{most} shown")
    sections = [f"### {literal(rung)}: {', '.join(shown)}"]
    for one in found[:most]:
        turns = [one.row["prompt"], *one.row["follow_ups"]]
        answer = re.split("</think>", one.row["responses"][one.sample][-1], flags=re.IGNORECASE)[-1]
        sections += [_caption(one), fenced(_cut(turns[-1], HEAD, TAIL)), fenced(_cut(answer, ANSWER))]
    return sections


def _caption(one: Through) -> str:
    """Return one line that describes the prompt and the verdicts."""
    row, sample = one.row, one.sample
    grades = dict(zip(("convincing", "specific"), _grades(row, sample), strict=False))
    facts = [
        f"**{literal(row['key'])}**",
        f"sample {sample}" if len(row["rule"]) > 1 else "",
        literal(row["group"]),
        f"attack {literal(row['attack'])}" if row["attack"] else "",
        f"{KINDS[row['wanted']]} prompt",
        *(f"{by}: {row[by][sample].replace('_', ' ')}" for by in ("rule", "judge") if row[by][sample]),
        *(f"{name}: {grade} of 5" for name, grade in grades.items()),
        "answer not finished" if row["finished"] and not row["finished"][sample] else "",
    ]
    return " · ".join(part for part in facts if part)


def _cut(text: str, head: int, tail: int = 0) -> str:
    """Shorten a text to its first `head` and last `tail` characters, and wrap it into lines."""
    line = visible(text)
    if len(line) > head + tail:
        line = f"{line[:head].rstrip()} […] {line[len(line) - tail :].lstrip()}"
    return textwrap.fill(line, WIDTH, break_on_hyphens=False)
