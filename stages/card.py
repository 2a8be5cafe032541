"""The data card of a file of rows: what is in it, where it is from, and what is wrong with it.

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
    """The file of rows under data/: `filter/chat`, `mixture/all`, `preferences/chat`."""
    title: str
    description: str
    """A sentence or two on what it is for."""
    licence: str
    """Of the rows that are made here: `apache-2.0`. Rows from elsewhere have the one that their entry of `source`
    states."""
    languages: list[str] = Field(min_length=1)
    """As the hub names them: `en`."""
    ngram: int = Field(default=8, ge=1)
    """A run of so many words that a benchmark has too is contamination."""
    jaccard: float = Field(default=0.8, gt=0, le=1)
    """From this similarity on two rows are near-duplicates."""
    examples: int = Field(default=3, ge=0)


def licensed(sources: dict[str, int], params: Params, entries: dict[str, Any]) -> list[Row]:
    """{"name", "rows", "origin", "licence"} for each name that rows give as their source.

    `entries` are those of the section `source`. Rows without a name, or with the path of a file of ours (as a mixture
    names its parts), are made here.
    """
    told = []
    for name, rows in sources.items():
        if name in entries:
            origin, licence = entries[name]["source"], entries[name].get("licence", UNKNOWN)
            origin = origin if ":" in origin else f"data/raw/{origin}"
        elif name == "" or "/" in name:
            origin, licence = f"made here by {stage(name or params.data)}", params.licence
        else:
            origin, licence = "not among the entries of `source`", UNKNOWN
        told.append({"name": name, "rows": rows, "origin": origin, "licence": licence})
    return told


def stage(data: str) -> str:
    """The stage that makes a file under data/: `filter/chat` comes of `filter@chat`."""
    made_by, _, name = data.partition("/")
    return f"`{made_by}@{name}`" if name else f"`{made_by}`"


def main(params: Params, data: Path, tasks: Path, base: Path, output: Path, document: Path) -> None:
    rung, tokenizer = described(base, "language_model")
    measured = facts(data, tokenizer, tasks, ngram=params.ngram, jaccard=params.jaccard, shown=params.examples)
    measured["sources"] = licensed(measured["sources"], params, read_params().get("source") or {})
    told = params.model_dump(include={"data", "title", "description", "languages"})
    whole = {"name": output.stem, **told, **measured, "tokenizer": rung.tokenizer}
    write_json(document, whole)
    write_text(output, page(whole))


if __name__ == "__main__":
    run(main, named=True)
