"""Make a smaller student by dropping layers of a rung, as the start of distillation.

python -m stages.prune_layers small models/base models/base models/prune_layers/small metrics/prune_layers/small.json
"""

import time
from pathlib import Path

from ladder.models.checkpoint import ledger, load_complete, rung_name, save_rung
from ladder.models.layer_pruning import drop_layers
from ladder.pipeline.stage import Config, run


class Params(Config):
    parent: str
    """Rung to copy from: `base`, `sft/maths`."""
    drop_layers: list[int]
    """Layers to drop, counted from 0."""


def main(params: Params, parent: Path, base: Path, output: Path, metrics: Path) -> None:
    """Copy the parent without `drop_layers` and save the rung to `output`."""
    started = time.monotonic()
    whole = load_complete(parent, base)
    layers = whole.model.config.num_hidden_layers
    student = drop_layers(whole.model, params.drop_layers)
    made = save_rung(
        output,
        student,
        whole.tokenizer,
        rung=rung_name(output),
        method="prune_layers",
        parents={whole.rung.rung: whole.rung},
        settings=params.model_dump(),
    )
    measured = {"layers": student.config.num_hidden_layers, "layers_of_parent": layers}
    ledger(metrics, made, time.monotonic() - started, measured)


if __name__ == "__main__":
    run(main, named=True)
