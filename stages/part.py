"""Prepare a file of rows for a mixture: add the source to every row. The entry is named `MIXTURE/PART`.

python -m stages.part both/own data/filter/chat.jsonl data/part/both/own.jsonl
"""

from pathlib import Path

from ladder.data.atomic_write import whole
from ladder.data.jsonl import Row, encoded
from ladder.data.jsonl_stream import RowFile
from ladder.data.mixing import origin
from ladder.data.turns import row_type
from ladder.pipeline.stage import Config, run


class Params(Config):
    data: str
    """File of rows under data/: `filter/chat`, `source/hh`, `mixture/both`."""


def typed(row: Row, where: str) -> Row:
    """Return the row. Errors: UserError when it has none of TRL's dataset types."""
    row_type(row, where)
    return row


def main(params: Params, data: Path, output: Path) -> None:
    """Copy the rows of `data` to `output` with their source. Errors: UserError for a row of no known type."""
    with whole(output) as file:
        for number, row in enumerate(RowFile(data, typed), start=1):
            row = {**row, "source": origin(row, params.data, number)}
            file.write(encoded(row, f"{data}: row {number}"))


if __name__ == "__main__":
    run(main, named=True)
