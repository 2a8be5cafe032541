"""Commands about results: scores, comparisons, and the state of outputs and of DVC's cache."""

from pathlib import Path
from typing import Annotated

import typer

from ladder.cli.names import benchmark_names
from ladder.cli.output import Json, messages_on_stderr, print_json

Benchmark = Annotated[
    str,
    typer.Argument(metavar="BENCHMARK", help="Name of a module in benchmarks/.", autocompletion=benchmark_names),
]
Task = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Rows of the benchmark; default data/task/BENCHMARK.jsonl.")
]


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
