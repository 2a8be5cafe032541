"""Output of commands: JSON on stdout, messages on stderr, exit codes."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]


@contextmanager
def messages_on_stderr(as_json: bool) -> Iterator[None]:
    """Send everything that is printed to stderr, so that stdout holds one JSON document.

    Also covers libraries and child processes, which write to the file descriptor.
    """
    if not as_json:
        yield
        return
    sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:  # stdout is closed
        kept = -1
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept >= 0:
            os.dup2(kept, 1)
            os.close(kept)


def print_json(document: Any) -> None:
    """Print one indented JSON document."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def exit_with(code: int) -> None:
    """End the command with an exit code other than 0."""
    if code:
        raise typer.Exit(code)
