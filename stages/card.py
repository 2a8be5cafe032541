"""Data card of a file of rows: statistics, sources and licenses, and data quality problems.

python -m stages.card chat data/filter/chat.jsonl data/task models/base data/card/chat.md data/card/chat.json
"""

from pathlib import Path
from typing import Any

from pydantic import Field

from ladder.data.jsonl import Row, write_json, write_text
from ladder.models.checkpoint import described
from ladder.pipeline.stage import Config, read_params, run
from ladder.report.data_card import UNKNOWN, page
from ladder.report.data_card_stats import facts


class Params(Config):
    data: str
    """File of rows under data/: `filter/chat`, `mixture/all`, `preferences/chat`."""
    title: str
    """Title of the card."""
    description: str
    """One or two sentences on the purpose of the data."""
    license: str
    """License of the rows that are made here: `apache-2.0`. Rows from elsewhere have the license that their entry of
    `source` states."""
    languages: list[str] = Field(min_length=1)
    """Language codes of the Hugging Face Hub: `en`."""
    ngram: int = Field(default=8, ge=1)
    """n of the word n-grams that count as contamination when a benchmark shares one."""
    jaccard: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity from which two rows are near-duplicates, in (0, 1]."""
    examples: int = Field(default=3, ge=0)
    """Number of rows shown as examples."""


def licensed(sources: dict[str, int], params: Params, entries: dict[str, Any]) -> list[Row]:
    """Return {"name", "rows", "origin", "license"} for each name that rows give as their source.

    `entries` is the section `source` of params.yaml. Rows are made here when they have no source name, or the path of
    one of our files (as a mixture names its parts).
    """
    found = []
    for name, rows in sources.items():
        if name in entries:
            origin, license = entries[name]["source"], entries[name].get("license", UNKNOWN)
            origin = origin if ":" in origin else f"data/raw/{origin}"
        elif name == "" or "/" in name:
            origin, license = f"made here by {stage(name or params.data)}", params.license
        else:
            origin, license = "not among the entries of `source`", UNKNOWN
        found.append({"name": name, "rows": rows, "origin": origin, "license": license})
    return found


def stage(data: str) -> str:
    """Name the stage that makes a file under data/: `filter/chat` is made by `filter@chat`."""
    made_by, _, name = data.partition("/")
    return f"`{made_by}@{name}`" if name else f"`{made_by}`"


def main(params: Params, data: Path, tasks: Path, base: Path, output: Path, document: Path) -> None:
    """Measure `data`; write the card to `output` (Markdown) and `document` (JSON).

    tasks: folder of the benchmarks' rows, to find contamination. base: the rung whose tokenizer counts tokens.
    """
    rung, tokenizer = described(base, "language_model")
    measured = facts(data, tokenizer, tasks, ngram=params.ngram, jaccard=params.jaccard, shown=params.examples)
    measured["sources"] = licensed(measured["sources"], params, read_params().get("source") or {})
    settings = params.model_dump(include={"data", "title", "description", "languages"})
    whole = {"name": output.stem, **settings, **measured, "tokenizer": rung.tokenizer}
    write_json(document, whole)
    write_text(output, page(whole))


if __name__ == "__main__":
    run(main, named=True)
