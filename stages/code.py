"""Code lists: for each stage and each benchmark, the files that it imports, with their hashes.

python -m stages.code ladder stages benchmarks data/raw params.yaml links.yaml code

A stage depends on its own list only, `code/sft.txt`. An edit of a file reruns only the stages that import it. An edit
of comments, messages or docstrings, except those of classes, reruns none (ladder/pipeline/code_text.py). Where a
benchmark is chosen by its name, the stage also depends on `code/benchmarks/ifeval.txt`. A stage's list ends with the
local files that its section of params.yaml names (ladder/pipeline/local_files.py).

The model filters of an entry of `filter`, with all that they import (a judge's decoder, a reward model), are in
`code/filter/NAME.txt`: an entry without them does not depend on any model's code.

This stage runs before all others, so it also refuses a links.yaml that does not belong to params.yaml
(ladder/pipeline/links.py).
"""

import hashlib
from pathlib import Path
from typing import Any

from ladder.data.atomic_write import published
from ladder.data.jsonl import write_text
from ladder.filters.registry import model_modules
from ladder.models.file_hashes import all_sha256
from ladder.pipeline.code_text import essence
from ladder.pipeline.defaults import with_defaults
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.links import check_links
from ladder.pipeline.local_files import files_of, local_files, unseen
from ladder.pipeline.stage import Config, UserError, read_written, run
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


def main(
    params: Params,
    ladder: Path,
    stages: Path,
    benchmarks: Path,
    raw: Path,
    settings: Path,
    links: Path,
    output: Path,
) -> None:
    """Write the code list of every stage and benchmark to the folder `output`.

    raw: folder of local files, read where `settings` (params.yaml) names them. links: links.yaml.
    Errors: UserError when links.yaml does not belong to params.yaml.
    """
    written = read_written(settings)
    check_links(written, links)
    sections = with_defaults(written)
    imports = read_imports([ladder, stages, benchmarks])
    hashes = {path: hashlib.sha256(essence(path)).hexdigest() for path in imports}
    with published(output) as made:
        for folder, lists in ((stages, made), (benchmarks, made / benchmarks.name)):
            for module in folder.glob("[!_]*.py"):
                files = sorted(imported(module, imports) & hashes.keys())
                listed = _listed(files, hashes)
                if folder == stages:
                    local = all_sha256(named_files(module.stem, sections.get(module.stem), settings))
                    listed += _listed(sorted(local), local)
                write_text(lists / f"{module.stem}.txt", listed)
        for name, entry in (sections.get("filter") or {}).items():
            chosen = [ladder / "filters" / f"{module}.py" for module in model_modules(entry)]
            files = sorted(set[Path]().union(*(imported(module, imports) for module in chosen)) & hashes.keys())
            write_text(made / "filter" / f"{name}.txt", _listed(files, hashes))


def _listed(files: list[Path], hashes: dict[Path, str]) -> str:
    return "".join(f"{hashes[path]}  {path}\n" for path in files)


if __name__ == "__main__":
    run(main)
