"""Preference pairs of a published data set, with the same margin, length and split controls as sampled pairs.

python -m stages.pairs hh data/source/hh.jsonl data/pairs/hh.jsonl data/pairs/hh.validation.jsonl metrics/pairs/hh.json
"""

from pathlib import Path

from ladder.data.atomic_write import whole
from ladder.data.jsonl import encoded, write_json
from ladder.data.jsonl_stream import RowFile
from ladder.pipeline.stage import run
from ladder.synthesis.pair_balancing import Controls, check_pair, controlled, labeled


class Params(Controls):
    data: str
    """File of rows `prompt, chosen, rejected` under data/: `source/hh`."""
    seed: int = 0
    """Seed of the choice of pairs that max_longer drops."""


def main(params: Params, data: Path, output: Path, validation: Path, metrics: Path) -> None:
    """Select the pairs of `data`; write training pairs to `output` and held-out pairs to `validation`."""
    pairs = RowFile(data, check_pair)
    labels, counts = controlled(pairs, params, params.seed, output)
    for path, side in ((output, "train"), (validation, "validation")):
        with whole(path) as file:
            for pair in labeled(pairs, labels, side):
                file.write(encoded(pair, f"{data}: row {pair.get('id')!r}"))
    write_json(metrics, {"in": len(labels), **counts})


if __name__ == "__main__":
    run(main, named=True)
