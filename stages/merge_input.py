"""Link from a merge to one of its parents: the parent's folder and identity. Weights are not copied.

python -m stages.merge_input models/sft/chat data/merge_input/soup/0.json

A merge has any number of parents, and DVC cannot expand a list into dependencies. Each parent is therefore a dependency
of its own link, and the merge depends on the folder of its links. The identity is a hash over every byte of a rung: a
changed parent changes the link, and the merge runs again.
"""

from pathlib import Path

from ladder.data.jsonl import write_json
from ladder.models.rung import read_rung
from ladder.pipeline.stage import Config, run


class Params(Config):
    """Nothing is to be decided."""


def main(params: Params, model: Path, output: Path) -> None:
    """Write `rung`, `identity` and `directory` of the rung in `model` to `output`."""
    rung = read_rung(model)
    write_json(output, {"rung": rung.rung, "identity": rung.identity, "directory": model.as_posix()})


if __name__ == "__main__":
    run(main)
