"""Entry point of stages: parse params.yaml and the command line into the arguments of a stage's `main`."""

import inspect
import math
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ladder.data.atomic_write import clean
from ladder.integrity.lock_copy import keep_copy
from ladder.pipeline.config import Config as Config
from ladder.pipeline.config import fit as fit
from ladder.pipeline.config import refuse_secrets as refuse_secrets
from ladder.pipeline.config import shown
from ladder.pipeline.defaults import DEFAULTS, default_faults, with_defaults
from ladder.pipeline.disk import Faults, check_writable
from ladder.pipeline.errors import UserError as UserError
from ladder.pipeline.files import read_text
from ladder.pipeline.launch import die_with_parent, launched, launcher, lease, rank
from ladder.pipeline.names import did_you_mean, name_faults
from ladder.pipeline.output_locks import written
from ladder.pipeline.secrets import conceal_tracebacks, concealed
from ladder.pipeline.seeds import RUNGS, Replicas, original, with_replicas
from ladder.pipeline.yaml_cache import cached
from ladder.pipeline.yaml_lines import Lines

PARAMS = Path("params.yaml")
LARGEST = 2**63
UNWRITABLE = re.compile(r"[\x00\ud800-\udfff]")
MOST_VALUES = 1_000_000
"""Maximum values of a YAML file after alias expansion. dvc.lock has about 20 thousand."""

P = TypeVar("P", str, Path)


def read_yaml(path: Path) -> Any:
    """Read one YAML 1.2 document, as DVC does: `1e-05` is a number (PyYAML would return a string).

    Errors: UserError for a file that is missing or not YAML. Aliases that contain themselves, or that expand to more
    than MOST_VALUES values, are errors too, because a traversal would not end.
    """
    text = read_text(path, fix="run from the root of the repository")
    try:
        content = cached(text, YAML(typ="safe", pure=True).load)
    except YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{path}: nested too deeply; expected a few levels") from None
    except (ValueError, TypeError, AttributeError) as error:  # for example an int of 5000 digits, or month 13
        raise UserError(f"{path}: invalid value: {' '.join(str(error).split())}") from None
    if (size := _size(content, {})) > MOST_VALUES:
        raise UserError(f"{path}: aliases expand to {size:.2g} values; expected at most {MOST_VALUES}")
    return content


def _size(content: Any, known: dict[int, float]) -> float:
    """Return the number of values after alias expansion; infinite if an alias contains itself."""
    if not isinstance(content, dict | list | set | tuple):
        return 1
    if id(content) not in known:
        known[id(content)] = math.inf
        inner = [*content, *content.values()] if isinstance(content, dict) else list(content)
        known[id(content)] = 1 + sum(_size(one, known) for one in inner)
    return known[id(content)]


def read_params(path: Path = PARAMS) -> dict[str, Any]:
    """Read and validate params.yaml; return complete entries, with the defaults that they inherit.

    Errors: those of `read_written`.
    """
    return with_defaults(read_written(path))


def read_written(path: Path = PARAMS) -> dict[str, Any]:
    """Read and validate params.yaml; return the sections as written, and the section `defaults`.

    Errors: UserError for an entry name or reference that a shell could read as a command (ladder/pipeline/names.py).
    """
    params = read_sections(path)
    faults = [*default_faults(params), *name_faults(with_defaults(params))]
    if faults:
        lines, more = Lines(path), f"; {len(faults) - 1} more: run `ladder check`" if faults[1:] else ""
        raise UserError(f"{lines.where(faults[0].keys)}: {faults[0].sentence}{more}")
    return params


def read_sections(path: Path = PARAMS) -> dict[str, Any]:
    """Read params.yaml as written, without the check of entry names, so that `check` can list every fault.

    Every top-level key must be a stage name (a module in stages/), or `defaults` (ladder/pipeline/defaults.py).
    Errors: UserError for an unknown section, a secret, or a value of an unsupported type.
    """
    params = read_yaml(path)
    if not isinstance(params, dict):
        raise UserError(f"{path}: expected one section per stage, got {type(params).__name__}")
    stages = {module.stem for module in Path("stages").glob("*.py")} - {"__init__"}
    for name in params:
        if name not in stages and name != DEFAULTS:
            near = did_you_mean(name, stages)
            raise UserError(
                f"{Lines(path).where([name])}: no stage is named {name!r}{near}; expected one of "
                f"{', '.join(sorted(stages))}"
            )
    refuse_secrets(params, str(path))
    if odd := next(_no_values(params, ()), None):
        keys, sentence = odd
        raise UserError(f"{Lines(path).where(keys)}: {sentence}")
    return params


def _no_values(content: Any, keys: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Iterate over (keys, sentence) of every value of an unsupported type.

    Supported are finite numbers between -2^63 and 2^63, Unicode text, lists, sections, true, false and null.
    """
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _no_values(value, (*keys, key))
    elif isinstance(content, list):
        for place, value in enumerate(content):
            yield from _no_values(value, (*keys, place))
    elif isinstance(content, str) and (odd := UNWRITABLE.search(content)):
        yield keys, f"expected Unicode text, got {odd[0]!a}, which no file name or file can contain"
    elif isinstance(content, float) and not math.isfinite(content):
        yield keys, f"expected a finite number, got {content}"
    elif isinstance(content, int) and abs(content) > LARGEST:
        yield keys, f"expected a number between -2^63 and 2^63, got one of {len(hex(content)) - 2} hex digits"
    elif not isinstance(content, str | int | float | None):
        kind = type(content).__name__
        yield keys, f"expected a text or a number, got {shown(content)} ({kind}). Put a text into quotes."


def run(
    main: Callable[..., None], *, named: bool = False, launch: bool = False, names: Mapping[str, str] | None = None
) -> None:
    """Run a stage's `main(params, *paths)` from the command line.

    The annotation of `params` is the type of the section, and the module's name is the section's name. A `named`
    stage has one entry per rung in its section; the entry's name is the first argument. A stage with `launch` runs
    under LADDER_LAUNCH if that is set (ladder/pipeline/launch.py).

    names: lists of names that belong to other sections, by the keyword of main that receives them:
    {"benchmarks": "report.benchmarks"}. For a section of named entries these are the entries' names. dvc.yaml tracks
    the same keys. `rungs.report` and `rungs.claims` are the measured rungs of a table with their replicas.

    The paths from the parameter `output` on are the stage's outputs. Before main runs, a copy of dvc.lock is saved
    (ladder/integrity/lock_copy.py), each output's folder is tested for writing, and each output is locked
    (ladder/pipeline/output_locks.py). A disk error during main becomes a UserError (ladder/pipeline/disk.py).

    A UserError is printed as one line, with exit code 1. Any other exception is a bug and keeps its traceback.
    """
    conceal_tracebacks()
    stage = Path(inspect.getfile(main)).stem
    first, *others = inspect.signature(main).parameters.values()
    paths = [path for path in others if path.kind is not path.KEYWORD_ONLY]
    words = (["NAME"] if named else []) + [path.name.upper() for path in paths]
    if len(sys.argv) != len(words) + 1:
        sys.exit(f"usage: python -m stages.{stage} {' '.join(words)}")
    arguments = sys.argv[1:]
    die_with_parent()
    if "DVC_STAGE" in os.environ and rank() == 0:
        keep_copy()
    try:
        sections = read_params()
        section, where = sections.get(stage), f"{PARAMS}: {stage}"
        if named:
            name = arguments.pop(0)
            section = with_replicas(sections).get(stage)
            if not isinstance(section, dict) or name not in section:
                raise UserError(f"{where}: no entry is named {name!r}{did_you_mean(name, section or ())}")
            section, where = section[name], f"{where}.{original(name)}"
        params = fit(first.annotation, section, where)
        lists = {keyword: _names(sections, key) for keyword, key in (names or {}).items()}
        command = _launcher() if launch else []
        given = [Path(argument) for argument in arguments]
        outputs = outputs_of([path.name for path in paths], given)
        if rank() == 0:
            check_writable(outputs)
        lease(every=bool(command))
        if command:
            sys.exit(launched(command, stage, sys.argv[1:]))
        with Faults(outputs), _only_writer(outputs):
            main(params, *given, **lists)
    except UserError as refusal:
        sys.exit(f"{stage}: {f'rank {rank()}: ' if rank() else ''}{concealed(str(refusal))}")
    except KeyboardInterrupt as interrupt:
        print(f"{stage}: interrupted; {str(interrupt) or 'run again to continue'}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _names(sections: dict[str, Any], key: str) -> list[str]:
    """Return the list of names at `section.key`, or the names of a section's entries. Errors: UserError."""
    section, _, inner = key.partition(".")
    if section == RUNGS:
        return Replicas(sections).rungs(inner)
    found = sections.get(section)
    if inner:
        found = found.get(inner) if isinstance(found, dict) else None
        if isinstance(found, list) and all(isinstance(name, str) for name in found):
            return found
    elif isinstance(found, dict):
        return list(found)
    raise UserError(f"{PARAMS}: {key}: expected {'a list of names' if inner else 'named entries'}, got {shown(found)}")


def outputs_of(names: list[str], paths: list[P]) -> list[P]:
    """Return the outputs among a stage's paths: `output` and all later ones."""
    return paths[names.index("output") :] if "output" in names else []


@contextmanager
def _only_writer(outputs: list[Path]) -> Iterator[None]:
    """Hold the locks of the outputs and remove what killed writers left.

    Only rank 0 writes, so other ranks do nothing.
    """
    if rank():
        yield
        return
    with written(outputs):
        for output in outputs:
            clean(output)
        yield


def _launcher() -> list[str]:
    try:
        command = launcher()
    except ValueError as error:
        raise UserError(f"LADDER_LAUNCH: not a command line: {error}") from None
    if command and shutil.which(command[0]) is None:
        raise UserError(f"LADDER_LAUNCH: no program {command[0]!r} on PATH")
    return command
