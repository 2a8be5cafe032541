"""Speed of stages.merge against mergekit's own run_merge, and whether their weights are bit-identical.

python -m perf.merge models/base models/merge/one models/merge/two   (complete rungs on that base)
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from safetensors.torch import load_file

from ladder.models.checkpoint import device, read_rung
from ladder.models.merge_config import with_paths
from stages import merge_input
from stages.merge import Params, main

METHODS: dict[str, dict[str, Any]] = {"linear": {}, "ties": {"density": 0.5}, "dare_ties": {"density": 0.5}}


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    """Load all weights of a complete model."""
    return {name: each for path in directory.glob("*.safetensors") for name, each in load_file(path).items()}


def compare(base: Path, first: Path, second: Path) -> None:
    """Print one line per method."""
    paths = {read_rung(path).rung: path for path in (base, first, second)}
    names = [read_rung(first).rung, read_rung(second).rung]
    for method, pruned in METHODS.items():
        entries = [{"model": name, "parameters": {"weight": 0.5, **pruned}} for name in names]
        config = {"merge_method": method, "models": entries, "dtype": "float32", "out_dtype": "bfloat16"}
        if method != "linear":
            config["base_model"] = read_rung(base).rung
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = Path(folder) / "merge/ours", Path(folder) / "theirs"
            started = time.monotonic()
            links = Path(folder) / "links"
            for place, parent in enumerate((first, second)):
                merge_input.main(merge_input.Params(), parent, links / f"{place}.json")
            main(Params(parents=names, seed=0, config=config), links, base, ours, Path(folder) / "ours.json")
            between = time.monotonic()
            options = MergeOptions(random_seed=0, write_model_card=False, quiet=True, device=str(device()))
            run_merge(MergeConfiguration.model_validate(with_paths(config, paths)), str(theirs), options)
            ended = time.monotonic()
            found, expected = tensors(ours), tensors(theirs)
            same = found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
        print(f"{method:10} ours {between - started:6.1f} s  mergekit {ended - between:6.1f} s  same bits: {same}")


if __name__ == "__main__":
    compare(*map(Path, sys.argv[1:]))
