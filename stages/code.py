"""Code lists: for each stage and each benchmark, the files that it imports, with their hashes.

python -m stages.code ladder stages benchmarks data/raw params.yaml code

A stage depends on its own list only, `code/sft.txt`. An edit of a file reruns only the stages that import it. An edit
of comments, messages or docstrings, except those of classes, reruns none (ladder/pipeline/code_text.py). Where a
benchmark is chosen by its name, the stage also depends on `code/benchmarks/ifeval.txt`. A stage's list ends with the
local files that its section of params.yaml names (ladder/pipeline/local_files.py).
"""

import hashlib
from pathlib import Path
from typing import Any

from ladder.data.atomic_write import published
from ladder.data.jsonl import write_text
from ladder.models.file_hashes import all_sha256
from ladder.pipeline.code_text import essence
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.local_files import files_of, local_files, unseen
from ladder.pipeline.stage import Config, UserError, read_params, run
from ladder.pipeline.yaml_lines import Lines


class Params(Config):
    """Nothing is to be decided."""


def named_files(stage: str, section: Any, settings: Path) -> list[Path]:
    """Return the local files that a section names. Errors: UserError for one that DVC would not see change."""
    found: set[Path] = set()
    for keys, path in local_files(stage, section):
        if why := unseen(path):
            raise UserError(f"{Lines(settings).where((stage, *keys))}: {why}")
        found.update(files_of(path))
    return sorted(found)


def main(params: Params, ladder: Path, stages: Path, benchmarks: Path, raw: Path, settings: Path, output: Path) -> None:
    """Write the code list of every stage and benchmark to the folder `output`.

    raw: folder of local files, read where `settings` (params.yaml) names them.
    """
    imports, sections = read_imports([ladder, stages, benchmarks]), read_params(settings)
    hashes = {path: hashlib.sha256(essence(path)).hexdigest() for path in imports}
    with published(output) as made:
        for folder, lists in ((stages, made), (benchmarks, made / benchmarks.name)):
            for module in folder.glob("[!_]*.py"):
                files = sorted(imported(module, imports) & hashes.keys())
                lines = [f"{hashes[path]}  {path}\n" for path in files]
                if folder == stages:
                    local = all_sha256(named_files(module.stem, sections.get(module.stem), settings))
                    lines += [f"{local[path]}  {path}\n" for path in sorted(local)]
                write_text(lists / f"{module.stem}.txt", "".join(lines))


if __name__ == "__main__":
    run(main)
