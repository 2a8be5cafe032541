"""Entry point of the command line: the console script `ladder`, and `python -m ladder`."""

import os
import signal
import sys
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("ladder/__main__.py", "dvc.yaml", "params.yaml")
"""Files that the root of a repository of this project has."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and return, or exit with a code other than 0.

    Exit codes: 1 for a user's mistake, in one line on stderr; 2 for wrong usage; 130 after Ctrl-C. Any other exception
    is a bug and keeps its traceback.
    """
    if arguments is None:
        _run_code_of_this_repository()
        arguments = sys.argv[1:]
    from ladder.pipeline.errors import UserError
    from ladder.pipeline.secrets import conceal_tracebacks, concealed

    conceal_tracebacks()
    import typer

    from ladder.cli.app import app
    from ladder.cli.group import UsageError, usage_sentence

    if "_LADDER_COMPLETE" in os.environ:
        app(prog_name="ladder")
    command = typer.main.get_command(app)
    code = 0
    try:
        try:
            with command.make_context("ladder", list(arguments)) as context:
                command.invoke(context)
        except typer.Exit as end:
            code = end.exit_code
        sys.stdout.flush()
    except UserError as refusal:
        fail(concealed(str(refusal)), 2 if isinstance(refusal, UsageError) else 1)
    except typer.TyperException as error:
        fail(concealed(usage_sentence(error)), error.exit_code)
    except (KeyboardInterrupt, typer.Abort) as interrupt:
        fail(f"interrupted; {str(interrupt) or 'run again to continue'}", 128 + signal.SIGINT)
    except BrokenPipeError:
        # The reader of the output (head, less) has exited. Python flushes stdout once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        from ladder.pipeline.disk import sentence

        if said := sentence(error):
            fail(said, 1)
        raise
    if code:
        sys.exit(code)


def fail(sentence: str, code: int) -> NoReturn:
    """Print one line on stderr and exit."""
    if code == 1:
        sys.exit(f"ladder: {sentence}")
    print(f"ladder: {sentence}", file=sys.stderr)
    sys.exit(code)


def _run_code_of_this_repository() -> None:
    """Start again as `python -m ladder` where the working directory is another copy of this repository.

    The console script imports the copy that is installed. In a git worktree or a second clone, stages would then run
    the code of one copy, and `ladder` that of another.
    """
    here = Path.cwd()
    if sys.flags.safe_path or here.samefile(ROOT):  # a safe path has no working directory, so the start would repeat
        return
    if all((here / name).is_file() for name in MARKS):
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-m", "ladder", *sys.argv[1:]])


if __name__ == "__main__":
    main()
