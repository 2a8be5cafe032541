"""Commands about records: scores of all revisions, where a number comes from, and what the runs cost."""

from enum import StrEnum
from typing import Annotated

import typer

from ladder.cli.names import benchmark_names
from ladder.cli.output import Json, print_json


class TableFormat(StrEnum):
    """Output format of the table of scores."""

    text = "text"
    markdown = "markdown"
    csv = "csv"
    json = "json"


def table(
    everything: Annotated[
        bool, typer.Option("--all", help="All commits with a table of rungs, tags and DVC experiments.")
    ] = False,
    revisions: Annotated[
        str | None,
        typer.Option(metavar="REV,…", help="These commits, tags, branches or experiments; `workspace` is the files."),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(metavar="ANY", help="Baseline of differences: a rung, in each revision, or a revision."),
    ] = None,
    sort: Annotated[
        str | None, typer.Option(metavar="BENCHMARK", help="Put the best score on this benchmark first.")
    ] = None,
    rungs: Annotated[str | None, typer.Option(metavar="RUNG,…", help="Show these rungs only.")] = None,
    benchmarks: Annotated[str | None, typer.Option(metavar="NAME,…", help="Show these benchmarks only.")] = None,
    form: Annotated[TableFormat | None, typer.Option("--format", help="Output format. Default text.")] = None,
    as_json: Json = False,
) -> None:
    """Print the table of rungs: of the workspace, or one row for each revision and rung.

    Without an option, it is report/table.md with the time and memory that each rung took here. With an option, each
    score has its 95% interval; scores made under different settings have different letters and are not compared.
    Parameters that differ between the revisions are columns.
    """
    from ladder.cli import table as workspace

    given = (compare, sort, rungs, benchmarks, revisions, form)
    if not everything and not any(given):
        if as_json:
            return print_json(workspace.table_document())
        return print(workspace.table_text())
    if everything and revisions:
        from ladder.cli.group import UsageError

        raise UsageError("table: --all and --revisions: both given; expected one of them")
    from ladder.cli.scores import show_scores

    names = None if everything else _names(revisions) or ["workspace"]
    return show_scores(
        names,
        baseline=compare,
        sort=sort,
        rungs=_names(rungs),
        benchmarks=_names(benchmarks),
        form=TableFormat.json if as_json else form or TableFormat.text,
    )


def _names(text: str | None) -> list[str]:
    """Split an option's comma-separated names."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def why(
    metric: Annotated[
        str | None,
        typer.Argument(metavar="METRIC", help="A rung with BENCHMARK, an output, or a stage such as sft@words."),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Argument(metavar="BENCHMARK", help="Benchmark of the table of rungs.", autocompletion=benchmark_names),
    ] = None,
    row: Annotated[
        str | None, typer.Option(metavar="[FILE:]KEY", help="Trace the row of training data with this `id` instead.")
    ] = None,
    forward: Annotated[
        str | None,
        typer.Option(metavar="CHANGE", help="List what a change of this file or parameter would run instead."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show where a number comes from: stages, values, data, code and commits, down to the base model and the seeds.

    Everything is from dvc.lock and files in git, so a clone without models gives the same tree. `--row` shows the
    source of a row, the filters that it passed, or the one that rejected it. `--forward` takes a path, or a key:
    params.yaml:sft.words.trainer.seed.
    """
    if sum(map(bool, (metric, row, forward))) != 1:
        from ladder.cli.group import UsageError

        raise UsageError("why: expected one of METRIC, --row and --forward; see `ladder why --help`")
    if forward:
        from ladder.cli.forward import forward_document, print_forward

        return print_json(forward_document(forward)) if as_json else print_forward(forward)
    from ladder.cli import why as origin

    if row:
        found = origin.of_row(row)
        return print_json(origin.row_document(found)) if as_json else origin.print_rows(found)
    tree = origin.why(str(metric), benchmark)
    return print_json(origin.document(tree)) if as_json else origin.print_tree(tree)


class LedgerFormat(StrEnum):
    """Output format of the ledger."""

    text = "text"
    csv = "csv"
    json = "json"


def ledger(
    everything: Annotated[
        bool, typer.Option("--all", help="All commits, tags and DVC experiments; each result counts once.")
    ] = False,
    revisions: Annotated[
        str | None,
        typer.Option(metavar="REV,…", help="These commits, tags, branches or experiments. Default: workspace."),
    ] = None,
    form: Annotated[LedgerFormat, typer.Option("--format", help="Output format.")] = LedgerFormat.text,
    as_json: Json = False,
) -> None:
    """Print what the runs cost: seconds, peak memory, tokens, API calls and money, by stage, by rung and in total.

    Reads the records that exist and writes none. A result that was restored from DVC's cache counts the seconds of the
    run that made it, once. A number that no record has is "not recorded" in text, empty in CSV and null in JSON.
    """
    if everything and revisions:
        from ladder.cli.group import UsageError

        raise UsageError("ledger: --all and --revisions: both given; expected one of them")
    from ladder.cli.ledger import show_ledger

    names = None if everything else _names(revisions) or ["workspace"]
    show_ledger(names, "json" if as_json else form)
