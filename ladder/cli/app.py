"""Typer application `ladder`. Commands import what they need when they run, so that `--help` loads no large library."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from ladder.cli.group import Command, Group
from ladder.cli.names import benchmark_names, recipe_names, stage_names

app = typer.Typer(
    name="ladder",
    cls=Group,
    help="Post-train language models as a versioned pipeline of models, data and benchmarks.",
    epilog="Example: ladder check && ladder repro report",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Benchmark = Annotated[
    str,
    typer.Argument(metavar="BENCHMARK", help="Name of a module in benchmarks/.", autocompletion=benchmark_names),
]
Task = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Rows of the benchmark; default data/task/BENCHMARK.jsonl.")
]
Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="STAGE", help="Stages or entries, such as sft@chat.", autocompletion=stage_names),
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


@app.command(cls=Command, epilog="Example: ladder repro sft@chat")
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
) -> None:
    """Run the stages whose inputs changed: `dvc repro`, with current lists of imported code, and faster.

    Without a stage, everything runs. All options are those of `dvc repro`, and so is the result.
    """
    chosen = {name: value for name, value in locals().items() if name != "targets"}
    from ladder.cli.pipeline_commands import repro as run

    exit_with(run(targets or [], [f"--{name.replace('_', '-')}" for name, value in chosen.items() if value]))


@app.command(cls=Command, epilog="Example: ladder status sft@chat")
def status(targets: Targets = None, as_json: Json = False) -> None:
    """List the stages whose inputs or outputs changed: `dvc status`, with current lists of imported code."""
    from ladder.cli.pipeline_commands import status as run

    exit_with(run(targets or [], ["--json"] if as_json else []))


@app.command(cls=Command, epilog="Example: ladder table")
def table(as_json: Json = False) -> None:
    """Print the table of rungs, report/table.md."""
    from ladder.cli.table import table_document, table_text

    if as_json:
        print_json(table_document())
    else:
        print(table_text())


@app.command(cls=Command, epilog="Example: ladder picture > picture.md")
def picture() -> None:
    """Print the graph and the table of stages, as in docs/stages.md."""
    from ladder.pipeline.picture import picture as drawn

    print(drawn())


@app.command(cls=Command, epilog="Example: ladder recipe gpu --dry-run")
def recipe(
    name: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE", help="Name of a file in recipes/, or a path.", autocompletion=recipe_names),
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the change as a unified diff; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the values of a recipe into params.yaml; lines of other keys keep every byte."""
    from ladder.cli import recipe as recipes

    if listed == (name is not None):
        raise typer.BadParameter("expected the name of a recipe, or --list", param_hint="RECIPE")
    if name is None:
        found = {str(path): recipes.summary(path) for path in recipes.recipes()}
        if as_json:
            print_json([{"recipe": path, "summary": summary} for path, summary in found.items()])
        else:
            print("\n".join(f"{path}  {summary}" for path, summary in found.items()) or "no recipes in recipes/")
        return
    path = recipes.find(name)
    applied = recipes.applied(path)
    if not dry_run:
        recipes.recipe(path)
    if as_json:
        print_json({"recipe": str(path), "changed": applied.changed, "diff": applied.diff, "written": not dry_run})
    elif dry_run:
        print(applied.diff, end="")
    else:
        print("\n".join(applied.changed) or "params.yaml has these values already")


@app.command(cls=Command, epilog="Example: ladder prune")
def prune(as_json: Json = False) -> None:
    """Remove records and outputs of entries that params.yaml no longer has."""
    from ladder.pipeline.lock_entries import prune as removed

    names = removed()
    if as_json:
        print_json({"removed": names})
    else:
        print("\n".join(f"removed {name}" for name in names) or "nothing to remove")


@app.command(cls=Command, epilog="Example: ladder score ifeval responses.jsonl")
def score(
    name: Benchmark,
    responses: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Rows of {prompt, response} or {key, response}: .jsonl, .json, .csv, .parquet, or compressed.",
        ),
    ],
    task: Task = None,
    null_is_wrong: Annotated[
        bool, typer.Option("--null-is-wrong", help="Score a response that is null as an empty answer.")
    ] = False,
    skip_foreign: Annotated[
        bool, typer.Option("--skip-foreign", help="Skip rows that answer no question of the benchmark.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout (the default).")] = True,
) -> None:
    """Score answers to a benchmark that were made elsewhere; print the scores as JSON."""
    from ladder.eval.score_command import score as scores

    with messages_on_stderr(as_json):
        metric = scores(name, responses, task, null_is_wrong=null_is_wrong, skip_foreign=skip_foreign)
    print_json(metric)


@app.command(cls=Command, epilog="Example: ladder bench ifeval --model models/sft/chat")
def bench(
    name: Benchmark,
    model: Annotated[str, typer.Option(metavar="MODEL", help="Folder of a rung, or the URL http://HOST/v1.")],
    model_name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the model at the endpoint.")
    ] = None,
    key_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", help="Environment variable of the endpoint's key; see docs/servers.md."),
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Allow http to another machine.")] = False,
    task: Task = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout (the default).")] = True,
) -> None:
    """Let a model answer a benchmark, and score the answers; print the scores as JSON."""
    import logging

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # hides its warning of a missing 4-bit kernel
    from ladder.eval.bench_command import bench as scores

    with messages_on_stderr(as_json):
        metric = scores(name, model, model_name, task, key_env=key_env, insecure=insecure)
    print_json(metric)


@app.command(cls=Command, epilog="Example: ladder diff HEAD~1 --prompts 5 --answers")
def diff(
    old: Annotated[str, typer.Argument(metavar="REV", help="A commit, tag, branch or DVC experiment.")],
    new: Annotated[
        str | None, typer.Argument(metavar="REV", help="The revision to compare with; default the workspace.")
    ] = None,
    prompts: Annotated[int, typer.Option(metavar="N", min=0, help="Changed prompts to show of each score.")] = 3,
    answers: Annotated[bool, typer.Option("--answers", help="Show both answers to these prompts.")] = False,
    across_settings: Annotated[
        bool, typer.Option("--across-settings", help="Also compare scores made under different settings.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the scores of two revisions, prompt by prompt."""
    from ladder.eval.diff import report

    with messages_on_stderr(as_json):
        found = report(old, new, prompts, answers=answers, across_settings=across_settings, as_json=as_json)
    if as_json:
        print_json(found)
    else:
        print(found)


@app.command(cls=Command, epilog="Example: ladder doctor --fix")
def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Repair; refused while a DVC command runs.")] = False,
    as_json: Json = False,
) -> None:
    """Verify rungs, DVC's cache, dvc.lock and remotes byte by byte.

    rungs: the SHA-256 of every file in models/. cache: the MD5 of every object. dvc.lock: missing or cut entries,
    conflicts. leftovers: half-written outputs, experiments without a worker. remotes: `verify: true`. Exit code 1 if a
    problem is left.
    """
    from ladder.integrity.doctor import doctor as examination

    with messages_on_stderr(as_json):
        found = examination(fix=fix)
    if as_json:
        print_json(found.document())
    else:
        print(found.text())
    if not found.ok:
        raise typer.Exit(1)


@app.command(cls=Command, epilog="Example: ladder gc --yes")
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Remove the objects; without it they are only counted.")] = False,
    as_json: Json = False,
) -> None:
    """Free space in DVC's cache, keeping the data of all commits and experiments.

    Runs `dvc gc --workspace --all-commits --all-experiments`. Refused while a DVC command runs or an experiment is
    queued or running.
    """
    from ladder.integrity.garbage_collection import collect

    with messages_on_stderr(as_json):
        found = collect(yes=yes)
    if as_json:
        print_json(found._asdict())
    else:
        print(found.sentence)


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
