"""Command line interface of the pipeline: `python -m ladder COMMAND`.

Commands: check | prune | table | picture | recipe FILE | score … | bench … | diff … | doctor | gc
"""

import io
import logging
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from ladder.data.jsonl import write_text
from ladder.pipeline.disk import sentence
from ladder.pipeline.links import LINKS, write_links
from ladder.pipeline.secrets import conceal_tracebacks, concealed
from ladder.pipeline.stage import PARAMS, UserError, read_params, read_yaml, refuse_secrets

USAGE = """usage: python -m ladder COMMAND
  check        look at params.yaml and the graph before anything runs
  prune        drop records and outputs of rungs that params.yaml no longer names
  table        print the table of rungs
  picture      print the graph and the stages, as docs/stages.md shows them
  recipe FILE  write the values of a recipe into params.yaml
  score        score answers to a benchmark that were made elsewhere
  bench        let a model answer a benchmark, and score it
  diff         compare the scores of two revisions, prompt by prompt
  doctor       verify every rung, cache object, dvc.lock and remote byte by byte; --fix repairs
  gc           free cache space, keeping the data of all commits and experiments"""


def recipe(path: Path) -> list[str]:
    """Apply the values of a recipe file to params.yaml, keeping its comments. Returns the keys that changed.

    A recipe may add an entry to a stage that has named entries: `ppo.maths`. Errors: UserError for an unknown key.
    """
    yaml = YAML()
    yaml.width = 1 << 12  # no line wrapping, so that the diff shows only what the recipe changes
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(type(None), _null)
    read_params()
    params = yaml.load(PARAMS.read_text(encoding="utf-8"))
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected sections such as those of {PARAMS}, got {type(values).__name__}")
    refuse_secrets(values, str(path))
    changed = _lay(params, values, "", path)
    text = io.StringIO()
    yaml.dump(params, text)
    write_text(PARAMS, _spaced(text.getvalue()))
    write_links(read_params(), PARAMS.with_name(LINKS.name))
    return changed


def _spaced(text: str) -> str:
    """Restore the layout of a section that had no entries before.

    Its comment stays beside its name, and a blank line follows its last entry.
    """
    lines: list[str] = []
    for line in re.sub(r"^(\w+:) +(#.*)\n\n(?=  )", r"\1  \2\n", text, flags=re.MULTILINE).split("\n"):
        lines += ["", line] if line[:1].isalpha() and lines and lines[-1].startswith(" ") else [line]
    return "\n".join(lines)


def _null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _lay(params: Any, values: Any, prefix: str, path: Path) -> list[str]:
    changed = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if name not in params and not _takes_entries(params, prefix):
            raise UserError(f"{path}: {key} is not in {PARAMS}")
        if isinstance(value, dict) and isinstance(params.get(name), dict):
            changed += _lay(params[name], value, f"{key}.", path)
        elif params.get(name) != value:
            params[name] = value
            changed.append(f"{key}: {value}")
    return changed


def _takes_entries(section: Any, prefix: str) -> bool:
    """Return whether this is a stage's section of named entries, possibly an empty one."""
    return prefix.count(".") == 1 and all(isinstance(entry, dict) for entry in section.values())


def table() -> str:
    """Return the text of report/table.md. Errors: UserError if the pipeline has not produced it yet."""
    path = Path("report/table.md")
    if not path.is_file():
        raise UserError(f"{path}: not there yet; `make ladder` makes it")
    return path.read_text(encoding="utf-8").rstrip()


def main(arguments: list[str]) -> None:
    """Run one command. A UserError is printed as one line on stderr, with exit code 1."""
    conceal_tracebacks()
    try:
        match arguments:
            case ["check"]:
                from ladder.pipeline.check import check

                if faults := check():
                    sys.exit(concealed("\n".join(faults)))
            case ["prune"]:
                from ladder.pipeline.check import prune

                print("\n".join(f"removed {name}" for name in prune()) or "nothing to remove")
            case ["table"]:
                print(table())
            case ["picture"]:
                from ladder.pipeline.check import picture

                print(picture())
            case ["recipe", path]:
                print("\n".join(recipe(Path(path))) or f"{PARAMS} has these values already")
            case ["score", *options]:
                from ladder.eval.score_command import score

                score(options)
            case ["bench", *options]:
                logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # hides its warning of a missing 4-bit kernel
                from ladder.eval.bench_command import bench

                bench(options)
            case ["diff", *options]:
                from ladder.eval.diff import main as diff

                diff(options)
            case ["doctor", *options]:
                from ladder.integrity.doctor import doctor

                doctor(options)
            case ["gc", *options]:
                from ladder.integrity.garbage_collection import collect

                collect(options)
            case _:
                sys.exit(USAGE)
        sys.stdout.flush()
    except UserError as refusal:
        sys.exit(f"ladder: {concealed(str(refusal))}")
    except KeyboardInterrupt as interrupt:
        print(f"ladder: interrupted; {str(interrupt) or 'run again to go on'}", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of the output (head, less) has exited. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if said := sentence(error):
            sys.exit(f"ladder: {said}")
        raise


if __name__ == "__main__":
    main(sys.argv[1:])
