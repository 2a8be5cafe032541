"""Commands `ladder check`, `ladder repro` and `ladder status`: DVC's commands with current code lists, and fast no-ops.

DVC learns of an edit of code through the stage `code` (stages/code.py). `dvc repro` runs it first, but `dvc status` and
`dvc repro --single-item` do not. The commands here run it before anything else, as `dvc repro code` does, with the same
entry in dvc.lock. A command that finds nothing to do records the state of the repository (ladder/pipeline/snapshot.py),
and in that state it ends at once.
"""

import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

from ladder.integrity.lock_copy import COPY, keep_copy
from ladder.pipeline import snapshot
from ladder.pipeline.errors import UserError
from ladder.pipeline.names import did_you_mean

CODE = "code"
"""Name of the stage that lists the files that each stage imports."""
UP_TO_DATE = "Data and pipelines are up to date."
"""What DVC prints when there is nothing to do."""
INTERRUPTED = 252
"""Exit code of DVC after Ctrl-C."""
RECORDED = frozenset({"--single-item", "--downstream", "--keep-going"})
"""Options of `dvc repro` under which a clean state is recorded."""


class Checked(NamedTuple):
    """Faults of params.yaml and the graph, and lines of information. The pipeline may run if there is no fault."""

    faults: list[str]
    information: list[str]


def check() -> Checked:
    """Run `ladder check`, unless the repository is in the state of the last check without faults."""
    if (information := snapshot.recall("check")) is not None:
        return Checked([], information)
    from ladder.pipeline.check import check as examine
    from ladder.pipeline.check import name_sentences
    from ladder.pipeline.dvc_speed import yaml_parsed_once

    with yaml_parsed_once():
        if names := name_sentences():  # DVC must not read these names
            return Checked(names, [])
        keep_copy()
        roots = [str(COPY), *_local_sources()]
        before = snapshot.settled(roots)
        with redirect_stdout(io.StringIO()) as printed:
            faults = examine()
        information = printed.getvalue().splitlines()
        clean = not faults and _refresh_if_possible()
    if clean:  # if the code lists were refreshed, the state has changed, and nothing is recorded
        snapshot.remember("check", before, roots, information)
    return Checked(faults, information)


def repro(targets: Sequence[str], options: Sequence[str], jobs: str = "1") -> int:
    """Run `dvc repro` with current code lists, progress lines and a summary; return its exit code.

    options: DVC's own, in their long form. jobs: number of stages at a time, or `auto`. Errors: UserError for an
    unknown target or number.
    """
    from ladder.pipeline.parallel import jobs_of

    count = jobs_of(jobs)
    if count > 1 and "--interactive" in options:
        raise UserError("--interactive: asks before each stage; expected --jobs 1 with it")
    command = f"repro {json.dumps([*targets, *options])}"
    recorded = RECORDED.issuperset(options)
    if recorded and (messages := snapshot.recall(command)) is not None:
        print("\n".join(messages))
        return 0
    from ladder.cli.progress import stages_announced
    from ladder.cli.run_summary import nothing_ran, run_summary
    from ladder.pipeline.dvc_speed import yaml_parsed_once

    use_own_python()
    with yaml_parsed_once():
        refresh_links()
        _refuse_unknown(targets, options)
        roots = [] if "--dry" in options else [refresh_code_lists()]
        before = snapshot.settled(roots)
        with stages_announced(options, count) as progress:
            code = _dvc(["repro", *options, *targets])
        lines = [] if code or progress.changed or "--dry" in options else nothing_ran()
        if code == 0 and recorded and not _looks_elsewhere(before):
            # If a stage did run, the state has changed, and nothing is recorded.
            snapshot.remember(command, before, roots, [UP_TO_DATE, *lines])
    if code == 0 and progress.changed:
        lines = ["", run_summary(progress)]
    for line in lines:
        print(line)
    return code


def status(targets: Sequence[str], options: Sequence[str]) -> int:
    """Run `dvc status` with current code lists; return its exit code. Errors: UserError for an unknown target."""
    from ladder.pipeline.dvc_speed import yaml_parsed_once

    use_own_python()
    with yaml_parsed_once():
        refresh_links()
        _refuse_unknown(targets, options)
        refresh_code_lists()
        return _dvc(["status", *options, *targets])


def refresh_links() -> None:
    """Write links.yaml again if params.yaml needs another one. Errors: UserError for an invalid params.yaml."""
    from ladder.pipeline.links import LINKS, write_links
    from ladder.pipeline.stage import PARAMS, read_written

    if LINKS.is_file() and PARAMS.is_file():
        write_links(read_written())


def refresh_code_lists(*, quiet: bool = False) -> str:
    """Run the stage `code` if the code or params.yaml has changed. Returns the path of DVC's cache.

    quiet: do not say so on stderr.

    Errors: UserError if DVC cannot read the pipeline, or the stage fails.
    """
    import logging

    from dvc.exceptions import DvcException
    from dvc.logger import set_loggers_level
    from dvc.repo import Repo
    from dvc.stage.exceptions import StageNotFound

    try:
        with Repo() as repo, set_loggers_level(logging.WARNING):
            cache = str(repo.cache.local.path)
            try:
                ran = repo.reproduce(CODE, single_item=True)
            except StageNotFound:
                return cache
    except DvcException as error:
        cause = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        raise UserError(f"dvc.yaml: {' '.join(cause.split())}") from None
    if ran and not quiet:
        print("code or params.yaml changed: stage code listed again what each stage imports", file=sys.stderr)
    return cache


def use_own_python() -> None:
    """Let stages run under this Python: their commands begin with `python`, which the shell looks up on PATH."""
    own = Path(sys.executable).parent
    found = shutil.which("python")
    if found is None or Path(found).parent != own:
        os.environ["PATH"] = f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"


def _refresh_if_possible() -> bool:
    """Refresh the code lists; return False while another DVC command runs, which has refreshed them."""
    use_own_python()
    with suppress(UserError):
        refresh_code_lists(quiet=True)
        return True
    return False


def _dvc(arguments: list[str]) -> int:
    """Run a DVC command in this process; return its exit code: 0, 130 after Ctrl-C, or 1."""
    from dvc.cli import main

    code = main(arguments)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    return min(code, 1)


def _refuse_unknown(targets: Sequence[str], options: Sequence[str]) -> None:
    """Refuse targets that are neither a stage of dvc.yaml nor a file, and name the nearest stage."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from ladder.integrity.lock_repair import pipeline_outputs
    from ladder.pipeline.dvc_file import read_pipeline

    if {"--glob", "--recursive"} & set(options):
        return
    stages = read_pipeline()
    unsure = [name for name in targets if name not in stages and not Path(name.partition(":")[0]).exists()]
    if not unsure:
        return
    try:
        with Repo() as repo:
            known = [*pipeline_outputs(repo), *stages]
    except DvcException:
        return  # DVC reports it
    for name in unsure:
        if name not in known:
            near = did_you_mean(name, known) or "; `dvc stage list --name-only` lists all"
            raise UserError(f"{name}: no such stage in dvc.yaml{near}")


def _local_sources() -> list[str]:
    """Files and folders that params.yaml names as sources and the state of the working tree does not hold."""
    from ladder.pipeline.stage import read_sections

    outside = ("/", "..", *(f"{folder}/" for folder in snapshot.TOP_SKIPPED))
    return sorted({source for source in _sources(read_sections()) if source.startswith(outside)})


def _sources(content: Any, key: str = "") -> list[str]:
    if isinstance(content, dict):
        return [source for name, value in content.items() for source in _sources(value, str(name))]
    if isinstance(content, list):
        return [source for value in content for source in _sources(value, key)]
    return [content] if isinstance(content, str) and key == "source" else []


def _looks_elsewhere(walk: snapshot.Walk) -> bool:
    """Whether DVC compares data outside the repository, which the state of the repository does not hold."""
    from ladder.pipeline.stage import read_yaml

    lock = Path("dvc.lock")
    if not lock.is_file() or any("deps:" in Path(file).read_text(encoding="utf-8") for file in walk.imports):
        return True
    entries = read_yaml(lock).get("stages") or {}
    places = (place for entry in entries.values() for kind in ("deps", "outs") for place in entry.get(kind) or [])
    paths = [str(place.get("path", "")) for place in places]
    return any("://" in path or path.startswith(("/", "..")) for path in paths)
