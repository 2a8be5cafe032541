"""Prompts of a held-out set, gathered in one folder for the stage `heldout`.

python -m stages.heldout_prompts data/problems/maths-heldout.jsonl \
    data/heldout_prompts/problems/maths-heldout.jsonl

A rung answers all sets of the section `heldout` in one process, which so depends on these sets alone.
"""

from pathlib import Path

from ladder.data.jsonl import column, read_rows, write_rows
from ladder.pipeline.stage import Config, run


class Params(Config):
    """Nothing is to be decided. The sets are the entries of `heldout`."""


def main(params: Params, prompts: Path, output: Path) -> None:
    """Copy the prompts. Errors: UserError for a row without an id."""
    rows = read_rows(prompts)
    column(rows, "id", str, prompts)
    write_rows(output, rows)


if __name__ == "__main__":
    run(main)
