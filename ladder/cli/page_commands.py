"""Command `ladder report`: the results as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from ladder.cli.output import Json, messages_on_stderr, print_json

PAGE = Path("report/index.html")


def report(
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="A commit, tag, branch or DVC experiment; default the workspace.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="OLD NEW", help="Two revisions to compare; the word workspace is the workspace."),
    ] = None,
    to: Annotated[Path, typer.Option(metavar="FILE", help="The page to write.")] = PAGE,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page with the results: graph, scores, curves, filters, judge, claims, costs and all answers.

    The page is a single file that needs no network. It is made from the files that are here; absent ones are listed
    with the command that brings them. Exit code 1 if a revision is unknown or has nothing to show.
    """
    from ladder.pipeline.errors import UserError

    if revision and compare:
        raise UserError("--revision: given together with --compare; expected one of them. Remove --revision.")
    with messages_on_stderr(as_json):
        from ladder.report.report_page import write

        written = write(list(compare) if compare else [revision], to)
    if as_json:
        print_json({**written._asdict(), "path": str(written.path)})
    else:
        print("".join(f"missing: {sentence}\n" for sentence in written.missing), end="")
        print(f"{written.path}: {written.rungs} rungs, {written.answers:,} answers, {written.size / 1e6:.1f} MB")
    if open_page:
        typer.launch(written.path.resolve().as_uri())
