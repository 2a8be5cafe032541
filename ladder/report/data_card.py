"""Data card as Markdown, for readers and for a hub's page. huggingface_hub writes its header."""

from huggingface_hub import DatasetCardData

from ladder.data.jsonl import Row
from ladder.data.markdown import Markdown, cell, code, fenced, table
from ladder.report.histograms import bars

SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
"""Size categories of the hub: (exclusive upper limit of rows, name)."""
UNKNOWN = "unknown"
SHOWN = 700
"""Maximum characters of a message shown in an example."""


def page(card: Row) -> str:
    """Return the card as Markdown. `card` is the JSON document produced by the stage `card`."""
    sections = [
        header(card),
        f"# {card['title']}",
        card["description"],
        _summary(card),
        "## Sources and licenses",
        _sources(card),
        _models(card),
        "## Rows",
        _columns(card),
        "## Lengths",
        _lengths(card),
        "## Turns",
        fenced(bars(card["turns"], "messages")),
        *_checks(card),
        *_balance(card),
        "## Duplicates",
        _duplicates(card),
        "## Contamination",
        _contamination(card),
        "## Examples",
        *_examples(card),
        "## How it was made",
        f"`dvc repro card@{card['name']}` measures `data/{card['data']}.jsonl`, after making it again if its "
        "inputs have changed, and writes this page and the same numbers as JSON.",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def header(card: Row) -> str:
    """Return the hub's YAML header between its `---` lines."""
    licenses = sorted({str(source["license"]).lower() for source in card["sources"]})
    data = DatasetCardData(
        license=licenses if licenses[1:] else licenses[0],
        language=card["languages"],
        pretty_name=card["title"],
        size_categories=[size(card["rows"])],
        task_categories=["text-generation"],
        tags=["conversational", *(["preference"] if "chosen" in card["type"] else [])],
        configs=[{"config_name": "default", "data_files": f"{card['data'].rsplit('/', 1)[-1]}.jsonl"}],
    )
    return f"---\n{data.to_yaml()}\n---"


def size(rows: int) -> str:
    """Return the hub's size category for a number of rows."""
    return next((name for most, name in SIZES if rows < most), "n>10M")


def percent(part: int, whole: int) -> str:
    """Format part / whole as a percentage with one decimal."""
    return f"{100 * part / whole:.1f}%"


def _summary(card: Row) -> str:
    tokens = sum(units["tokens"]["total"] for units in card["lengths"].values())
    rows = [
        ("type", " · ".join(card["type"])),
        ("rows", card["rows"]),
        ("tokens of the base model", tokens),
        ("bytes", card["bytes"]),
        ("sha256", code(card["sha256"])),
    ]
    return table(["file", code(f"data/{card['data']}.jsonl")], rows)


def _sources(card: Row) -> str:
    rows = [
        (one["name"] or _origin(one["origin"]), one["rows"], percent(one["rows"], card["rows"]), one["license"])
        for one in card["sources"]
    ]
    origins = [f"- {cell(one['name'])}: {_origin(one['origin'])}" for one in card["sources"] if one["name"]]
    unstated = any(one["license"] == UNKNOWN for one in card["sources"])
    warning = "A license is unknown: do not publish these rows before it is known." if unstated else ""
    made = table(["source", "rows", "share", "license"], rows)
    return "\n\n".join(part for part in (made, "\n".join(origins), warning) if part)


def _origin(text: str) -> Markdown:
    """Return an origin as Markdown: the stage that made the rows is quoted as code already, a source is not."""
    return Markdown(text) if text.startswith("made here by `") else cell(text)


def _models(card: Row) -> str:
    if "models" not in card:
        return ""
    rows = [(code(name), count, percent(count, card["rows"])) for name, count in card["models"].items()]
    said = "Answers by models of endpoints, whose terms may bind them:"
    return f"{said}\n\n{table(['model', 'rows', 'share'], rows)}"


def _columns(card: Row) -> str:
    rows = ((code(name), count, card["true"].get(name, "")) for name, count in card["columns"].items())
    return table(["column", "rows that have it", "of them true"], rows)


def _lengths(card: Row) -> str:
    numbers = ("mean", "p5", "median", "p95", "max")
    rows = [
        (f"{part}, {unit}", *(found[number] for number in numbers))
        for part, units in card["lengths"].items()
        for unit, found in units.items()
    ]
    drawn = [
        f"Tokens of the {part}:\n\n{fenced(bars(units['tokens']['histogram'], 'tokens'))}"
        for part, units in card["lengths"].items()
    ]
    return "\n\n".join([table(["", "mean", "5%", "median", "95%", "max"], rows), *drawn])


def _checks(card: Row) -> list[str]:
    if not card["checks"]:
        return []
    kinds = card["checks"]["kinds"]
    said = "Constraints that code verifies, by kind (a row may have several), and how many a row has:"
    rows = ((code(name), count, percent(count, card["rows"])) for name, count in kinds.items())
    return [
        "## Constraints",
        said,
        table(["kind", "rows", "share"], rows),
        fenced(bars(card["checks"]["of_a_row"], "constraints")),
    ]


def _balance(card: Row) -> list[str]:
    if "balance" not in card:
        return []
    found = card["balance"]
    return [
        "## Chosen and rejected",
        f"The chosen answer is the longer one in {found['chosen_longer_percent']:.1f}% of the pairs, by "
        f"{found['chosen_longer_by_words']:.1f} words in the mean (95% interval over prompts: "
        f"{found['chosen_longer_low']:.1f} to {found['chosen_longer_high']:.1f}).",
    ]


def _duplicates(card: Row) -> str:
    found = card["duplicates"]
    rows = [
        ("exact duplicates, ignoring case and whitespace", found["exact"]),
        (
            f"near duplicates, including the exact ones (Jaccard {found['jaccard']} of runs of {found['ngram']} words)",
            found["near"],
        ),
    ]
    return table(["rows", ""], [(name, f"{count:,} ({percent(count, card['rows'])})") for name, count in rows])


def _contamination(card: Row) -> str:
    found = card["contamination"]
    said = f"Rows that share a run of {found['ngram']} words with a benchmark, or ask a whole question of it:"
    spans = [f"- row `{one['row']}`, {one['span']}" for one in found["spans"]]
    return "\n\n".join(
        part for part in (said, table(["benchmark", "rows"], found["benchmarks"].items()), "\n".join(spans)) if part
    )


def _examples(card: Row) -> list[str]:
    blocks = []
    for row in card["examples"]:
        blocks.append(f"### `{row.get('id', 'a row')}`")
        for name in card["type"]:
            for message in row[name]:
                who = message["role"] if name in ("messages", "prompt") else f"{message['role']} ({name})"
                text = message["content"]
                cut = f"{text[:SHOWN]} […]" if len(text) > SHOWN else text
                blocks += [f"**{who}**", fenced(cut)]
    return blocks
