"""Code lists: for each stage and each benchmark, the files that it imports, with their hashes.

python -m stages.code ladder stages benchmarks params.yaml links.yaml code

A stage depends on its own list only, `code/sft.txt`. An edit of a file reruns only the stages that import it. An edit
of comments, messages or docstrings, except those of classes, reruns none (ladder/pipeline/code_text.py). Where a
benchmark is chosen by its name, the stage also depends on `code/benchmarks/ifeval.txt`.

The model filters of an entry of `filter`, with all that they import (a judge's decoder, a reward model), are in
`code/filter/NAME.txt`: an entry without them does not depend on any model's code.

This stage runs before all others, so it also refuses a links.yaml that does not belong to params.yaml
(ladder/pipeline/links.py).
"""

import hashlib
from pathlib import Path

from ladder.data.atomic_write import published
from ladder.data.jsonl import write_text
from ladder.filters.registry import model_modules
from ladder.pipeline.code_text import essence
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.links import check_links
from ladder.pipeline.stage import Config, read_yaml, run


class Params(Config):
    """Nothing is to be decided."""


def main(
    params: Params, ladder: Path, stages: Path, benchmarks: Path, parameters: Path, links: Path, output: Path
) -> None:
    """Write the code list of every stage and benchmark to the folder `output`.

    parameters: params.yaml. links: links.yaml. Errors: UserError when links.yaml does not belong to params.yaml.
    """
    found = read_yaml(parameters)
    check_links(found, links)
    imports = read_imports([ladder, stages, benchmarks])
    hashes = {path: hashlib.sha256(essence(path)).hexdigest() for path in imports}
    with published(output) as made:
        for folder, lists in ((stages, made), (benchmarks, made / benchmarks.name)):
            for module in folder.glob("[!_]*.py"):
                files = sorted(imported(module, imports) & hashes.keys())
                write_text(lists / f"{module.stem}.txt", _listed(files, hashes))
        for name, entry in (found.get("filter") or {}).items():
            chosen = [ladder / "filters" / f"{module}.py" for module in model_modules(entry)]
            files = sorted(set[Path]().union(*(imported(module, imports) for module in chosen)) & hashes.keys())
            write_text(made / "filter" / f"{name}.txt", _listed(files, hashes))


def _listed(files: list[Path], hashes: dict[Path, str]) -> str:
    return "".join(f"{hashes[path]}  {path}\n" for path in files)


if __name__ == "__main__":
    run(main)
