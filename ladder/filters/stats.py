"""Filter report: row counts by filter and by source, rejection reasons, and samples of rejected rows."""

import hashlib
import heapq
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from ladder.data.jsonl import Row, read_json, write_json, write_text
from ladder.data.markdown import cell, table
from ladder.data.turns import said
from ladder.data.wording import WORD

Tally = Counter[tuple[str, str, str]]
"""Row counts by (event, filter label, source name). Events are `in`, `kept`, `rejected`, `contaminated` and `edited`.

`edited` counts edited rows: all input rows under an empty label, rejected rows under the filter's label.
"""
SAMPLE = 5
"""Number of rejected rows shown per filter, and of reasons."""
MOST_REASONS = 10_000
CUT = re.compile(r" \.\.\. \(\d+ words\)$")
"""Suffix that replaces the rest of a long span in a reason."""
EXCERPT = 400
"""Characters of a text in a sample, around the span that the reason names."""


def source(row: Row) -> str:
    """Name of a row's source; empty if it has none."""
    source_of = row.get("source")
    return str(source_of.get("name", "")) if isinstance(source_of, dict) else ""


def write_tally(path: Path, tally: Tally) -> None:
    """Write counts to a JSON file."""
    write_json(path, {"rows": [[*key, count] for key, count in sorted(tally.items())]})


def read_tally(path: Path) -> Tally:
    """Read counts that `write_tally` wrote."""
    return Tally({(event, label, name): count for event, label, name, count in read_json(path)["rows"]})


def total(tally: Tally, event: str, label: str | None = None, name: str | None = None) -> int:
    """Number of rows with an event, optionally of one filter and of one source."""
    return sum(
        count
        for (happened, step, origin), count in tally.items()
        if happened == event and label in (None, step) and name in (None, origin)
    )


def metrics(tally: Tally, labels: Sequence[str]) -> Row:
    """Counts for `dvc metrics diff`: over all rows, and per source if rows have one."""
    numbers: Row = {
        "in": total(tally, "in"),
        "kept": total(tally, "kept"),
        "edited": total(tally, "edited", "") - sum(total(tally, "edited", label) for label in labels),
        "contaminated": total(tally, "contaminated"),
        "rejected": {label: total(tally, "rejected", label) for label in labels},
    }
    names = sorted({name for event, _, name in tally if event == "in"})
    if names != [""]:
        numbers["sources"] = {
            name or "none": {
                "in": total(tally, "in", name=name),
                "kept": total(tally, "kept", name=name),
                "rejected": {label: total(tally, "rejected", label, name) for label in labels},
            }
            for name in names
        }
    return numbers


def funnel(tally: Tally, labels: Sequence[str]) -> str:
    """Tab-separated values for `dvc plots`: rows left after each step."""
    left = total(tally, "in")
    lines = ["step\trows", f"in\t{left}"]
    for label in labels:
        left -= total(tally, "rejected", label)
        lines.append(f"{label}\t{left}")
    return "\n".join(lines) + "\n"


def write_samples(path: Path, tally: Tally, rejected: dict[str, list[Path]]) -> None:
    """Write a Markdown report: the funnel (by source if several), frequent reasons, samples of rejected rows."""
    names = sorted({name for event, _, name in tally if event == "in"})
    left = total(tally, "in")
    heads = ["filter", "in", "rejected", "left", *(f"of {name or 'none'}" for name in names if len(names) > 1)]
    counts = []
    for label in rejected:
        gone = total(tally, "rejected", label)
        by_source = [total(tally, "rejected", label, name) for name in names if len(names) > 1]
        counts.append([label, *map(str, [left, gone, left - gone, *by_source])])
        left -= gone
    lines = [table(heads, counts, rule=["---", *["---:"] * (len(heads) - 1)])]
    for label, paths in rejected.items():
        if total(tally, "rejected", label):
            lines += _section(label, paths)
    write_text(path, "\n".join(lines) + "\n")


def _section(label: str, paths: list[Path]) -> Iterator[str]:
    reasons, chosen = _read(paths)
    yield f"\n## {label}\n"
    yield from (f"- {count} × {cell(reason)}" for reason, count in reasons)
    for row in chosen:
        heading = f"{row.get('id', 'row')} {source(row)}".rstrip()
        yield f"\n### {cell(heading)}\n\n**{cell(row['reason'])}**\n"
        span = CUT.sub("", row["reason"].rpartition(": ")[2])
        yield _quoted(said(row, "prompt"), span)
        if "prompt" not in row or row.keys() & {"completion", "chosen"}:  # a row with a prompt only has no answer
            yield "\n---\n"
            yield _quoted(said(row, "completion"), span)


def _read(paths: list[Path]) -> tuple[list[tuple[str, int]], list[Row]]:
    """(most frequent reasons, sampled rows). The sample is drawn by hash and does not depend on the order of rows."""
    reasons: Counter[str] = Counter()
    drawn: list[tuple[int, bytes]] = []
    for path in paths:
        with path.open("rb") as lines:
            for line in lines:
                reasons[orjson.loads(line)["reason"]] += 1
                if len(reasons) > MOST_REASONS:  # drop rare reasons to bound memory
                    reasons = Counter(dict(reasons.most_common(MOST_REASONS // 2)))
                draw = -int.from_bytes(hashlib.sha256(line).digest()[:8])
                heapq.heappush(drawn, (draw, line)) if len(drawn) < SAMPLE else heapq.heappushpop(drawn, (draw, line))
    commonest = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))[:SAMPLE]
    return commonest, [orjson.loads(line) for _, line in sorted(drawn, reverse=True)]


def _quoted(text: str, span: str) -> str:
    """Quote a text in Markdown, without HTML, cut to an excerpt. The words of `span` are marked with ⟦ and ⟧."""
    marked = None
    if found := WORD.findall(span):
        marked = re.search(r"\W+".join(map(re.escape, found)), text, re.IGNORECASE)
    if marked:
        start, stop = marked.span()
        text = f"{text[:start]}⟦{text[start:stop]}⟧{text[stop:]}"
    begin = max(0, marked.start() - EXCERPT // 2) if marked else 0
    end = max(begin + EXCERPT, marked.end() + 2 if marked else 0)
    excerpt = ("…" if begin else "") + text[begin:end] + ("…" if end < len(text) else "")
    return "\n".join(f"> {line}" for line in excerpt.replace("<", "\\<").splitlines())
