"""Typer application `ladder`. Commands import what they need when they run, so that `--help` loads no large library."""

import sys
from typing import Annotated

import typer

from ladder.cli import page_commands, project_commands, record_commands, result_commands, ship_commands
from ladder.cli.group import Command, Group
from ladder.cli.names import stage_names
from ladder.cli.output import Json, exit_with, messages_on_stderr, print_json

app = typer.Typer(
    name="ladder",
    cls=Group,
    help="Post-train language models as a versioned pipeline of models, data and benchmarks.",
    epilog="Example: ladder check && ladder repro report",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="STAGE", help="Stages or entries, such as sft@words.", autocompletion=stage_names),
]


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        print(f"ladder {version('ladder')}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Post-train language models as a versioned pipeline of models, data and benchmarks."""
    if context.invoked_subcommand is None:
        context.get_help()
        raise typer.Exit()


@app.command(cls=Command, epilog="Example: ladder check")
def check(as_json: Json = False) -> None:
    """Check params.yaml, dvc.yaml and dvc.lock before anything runs.

    Exit code 1 if there is a fault. The lists of imported files are brought up to date first, as `dvc repro code` does.
    """
    from ladder.cli.pipeline_commands import check as checked
    from ladder.pipeline.secrets import concealed

    with messages_on_stderr(as_json):
        faults, information = (list(map(concealed, lines)) for lines in checked())
    if as_json:
        print_json({"ok": not faults, "faults": faults, "information": information})
    else:
        print("".join(f"{line}\n" for line in [*information, *faults]), end="", file=sys.stderr)
    if faults:
        raise typer.Exit(1)


@app.command(cls=Command, epilog="Example: ladder repro sft@words")
def repro(
    targets: Targets = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Run the stages even if nothing changed.")] = False,
    interactive: Annotated[bool, typer.Option("--interactive", "-i", help="Ask before each stage.")] = False,
    single_item: Annotated[
        bool, typer.Option("--single-item", "-s", help="Run only the named stages, without those they depend on.")
    ] = False,
    pipeline: Annotated[bool, typer.Option("--pipeline", "-p", help="Run the whole pipeline of each stage.")] = False,
    all_pipelines: Annotated[bool, typer.Option("--all-pipelines", "-P", help="Run all pipelines.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-R", help="Run all stages of a folder.")] = False,
    downstream: Annotated[
        bool, typer.Option("--downstream", help="Run the stages that depend on the named ones.")
    ] = False,
    force_downstream: Annotated[
        bool, typer.Option("--force-downstream", help="Run all stages that depend on a changed one.")
    ] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Pull missing data from the remote.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Skip stages whose data is missing but unchanged.")
    ] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Print the commands without running them.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", "-k", help="After a failure, run the stages that do not depend on it.")
    ] = False,
    ignore_errors: Annotated[bool, typer.Option("--ignore-errors", help="Run all stages despite failures.")] = False,
    glob: Annotated[bool, typer.Option("--glob", help="Read * and ? in names of stages.")] = False,
    no_commit: Annotated[bool, typer.Option("--no-commit", help="Keep outputs out of DVC's cache.")] = False,
    no_run_cache: Annotated[
        bool, typer.Option("--no-run-cache", help="Run stages even if DVC has the results of an equal run.")
    ] = False,
    jobs: Annotated[
        str, typer.Option("--jobs", "-j", help="Stages at a time: a number, or auto for one per GPU or CPU core.")
    ] = "1",
) -> None:
    """Run the stages whose inputs changed: `dvc repro`, with current lists of imported code, and faster.

    Without a stage, everything runs. All options but --jobs are those of `dvc repro`, and so is the result. A line
    before each stage has its number and the time left; the end is a summary of the table of rungs.
    """
    chosen = {name: value for name, value in locals().items() if name not in ("targets", "jobs")}
    from ladder.cli.pipeline_commands import repro as run

    exit_with(run(targets or [], [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value], jobs))


@app.command(cls=Command, epilog="Example: ladder status sft@words")
def status(targets: Targets = None, as_json: Json = False) -> None:
    """List the stages whose inputs or outputs changed: `dvc status`, with current lists of imported code."""
    from ladder.cli.pipeline_commands import status as run

    exit_with(run(targets or [], ["--json"] if as_json else []))


for _command, _example in (
    (record_commands.table, "ladder table --all --sort word_order"),
    (record_commands.why, "ladder why sft/words word_order"),
    (record_commands.ledger, "ladder ledger --format csv"),
    (page_commands.report, "ladder report --compare HEAD~1 workspace"),
    (project_commands.picture, "ladder picture > picture.md"),
    (project_commands.init, "ladder init --recipe qlora-8b --data faq.jsonl"),
    (project_commands.recipe, "ladder recipe gpu --dry-run"),
    (project_commands.prune, "ladder prune"),
    (result_commands.score, "ladder score ifeval responses.jsonl"),
    (result_commands.bench, "ladder bench ifeval --model models/sft/words"),
    (result_commands.diff, "ladder diff HEAD~1 --prompts 5 --answers"),
    (result_commands.doctor, "ladder doctor --fix"),
    (result_commands.gc, "ladder gc --yes"),
    *ship_commands.COMMANDS,
):
    app.command(cls=Command, epilog=f"Example: {_example}")(_command)
