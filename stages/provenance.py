"""Method, parents, size and training cost of a rung, for the report.

    python -m stages.provenance metrics/sft/chat.json data/provenance/sft/chat.json

This is the only way from seconds and memory, which differ from run to run, to another stage: the report shows them.
"""

from pathlib import Path

from ladder.data.jsonl import read_json, write_json
from ladder.pipeline.stage import Config, UserError, run

KEPT = ("method", "parent", "parameters", "trainable_parameters", "seconds", "memory_gb", "tokens_per_second")
"""Fields of metrics/<rung>.json that the report shows."""


class Params(Config):
    """Nothing is to be decided."""


def main(params: Params, metrics: Path, output: Path) -> None:
    """Copy the rung's provenance from its record of training. Errors: UserError for a record without a method."""
    record = read_json(metrics)
    if not isinstance(record.get("method"), str):
        raise UserError(f"{metrics}: method: expected the stage that made the rung, got {record.get('method')!r}")
    write_json(output, {name: record[name] for name in KEPT if name in record})


if __name__ == "__main__":
    run(main)
