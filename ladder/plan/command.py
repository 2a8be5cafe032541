"""`ladder plan` and `ladder advise`: what a run would do and cost, and which method fits a problem."""

import json
import shutil
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from ladder.pipeline.errors import UserError
from ladder.pipeline.stage import read_params, read_written
from ladder.plan.advise import QUESTIONS, Advice, advise, ask, checked
from ladder.plan.changes import changes
from ladder.plan.compute import gpu as gpu_of
from ladder.plan.compute import rates
from ladder.plan.costs import Costs
from ladder.plan.expand import read_lock
from ladder.plan.memory import METHODS, OPTIMIZER_BYTES, Step
from ladder.plan.model import plan_model
from ladder.plan.sources import read_config
from ladder.plan.tables import Grid, as_json, cost_grid, markdown_grid, model_grids, model_json, rich_grid, summary
from ladder.plan.trees import branches, markdown_tree, rich_tree

app = typer.Typer(no_args_is_help=True, add_completion=False, rich_markup_mode=None)


class Format(StrEnum):
    """Output format."""

    text = "text"
    markdown = "markdown"
    json = "json"


def this_machine() -> str:
    """Return the key in the rates of this machine's GPU, by `nvidia-smi`; `cpu` without a GPU or for another one."""
    if shutil.which("nvidia-smi") is None:
        return "cpu"
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        asked = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "cpu"
    name, _, memory = (asked.stdout.splitlines() or [""])[0].partition(",")
    words = name.lower().replace("geforce", "").replace(" ", "")
    found = [key for key in rates()["gpus"] if key.split("-")[0] in words]
    if len(found) > 1 and memory.strip().isdecimal():  # one card with two sizes of memory
        found.sort(key=lambda key: abs(rates()["gpus"][key]["memory_gb"] * 1000 - int(memory)))
    if not found and name:
        print(f"{name}: no rates; planning for a CPU. Name a similar GPU by --gpu", file=sys.stderr)
    return found[0] if found else "cpu"


@app.command(epilog="Example: ladder plan report --gpu h100; ladder plan --model Llama-3.1-8B --method qlora")
def plan(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Stages, entries or outputs: report, sft@words. Default: all.")
    ] = None,
    gpu: Annotated[str, typer.Option(help="h200, h100, a100-80, a100-40, l40s, rtx4090, rtx3090, t4 or cpu.")] = "",
    model: Annotated[
        str,
        typer.Option(help="One model: a built-in name, a rung, base, a folder, a .gguf file, hub:ORG/NAME@COMMIT."),
    ] = "",
    method: Annotated[
        list[str] | None, typer.Option(help="full, lora, dora or qlora; may be repeated. Default: all.")
    ] = None,
    r: Annotated[int, typer.Option(min=1, help="Rank of LoRA.")] = 16,
    targets_of_lora: Annotated[
        str, typer.Option("--target-modules", help="Comma-separated names of modules, or all-linear.")
    ] = "all-linear",
    batch: Annotated[int, typer.Option(min=1, help="Rows of a micro-batch.")] = 8,
    length: Annotated[int, typer.Option(min=1, help="Tokens of its longest row.")] = 512,
    tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to train on, for the time.")] = None,
    optimizer: Annotated[str, typer.Option(help=f"{', '.join(OPTIMIZER_BYTES)}.")] = "adamw",
    checkpointing: Annotated[bool, typer.Option(help="Gradient checkpointing.")] = False,
    packing: Annotated[bool, typer.Option(help="Rows laid end to end.")] = False,
    liger: Annotated[bool, typer.Option(help="Fused kernels of liger-kernel.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Do not group stages, and list unchanged ones.")] = False,
    output: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.text,
    as_json_: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Show what a run would do, why, and what it costs, before anything runs; or plan for one --model."""
    form, device = Format.json if as_json_ else output, gpu or this_machine()
    if device != "cpu":
        gpu_of(device)
    if not model:
        return _graph(targets, device, form, everything=everything)
    chosen = tuple(name for name in METHODS if name in (method or METHODS))
    for name in method or ():
        if name not in METHODS:
            raise UserError(f"--method: expected one of {', '.join(METHODS)}, got {name!r}")
    config, origin = read_config(_source(model))
    modules: Any = targets_of_lora if targets_of_lora == "all-linear" else targets_of_lora.split(",")
    step = Step(batch * length, optimizer=optimizer, checkpointing=checkpointing, packed=packing, liger=liger)
    found = plan_model(
        config, name=model, origin=origin, methods=chosen, lora={"r": r, "target_modules": modules}, step=step,
        tokens=tokens, gpu=device,
    )  # fmt: skip
    if form is Format.json:
        return _say_json(model_json(found))
    return _say_grids(model_grids(found), form)


def _source(model: str) -> str:
    """Return the source of a rung that is there, of the base of params.yaml, or the text itself."""
    if Path("models", model, "config.json").is_file():
        return str(Path("models", model))
    return str(read_params()["base"]["source"]) if model == "base" else model


def _graph(targets: list[str] | None, device: str, form: Format, *, everything: bool) -> None:
    params = read_written()
    found = changes(params, targets)
    costs = Costs(changes(params) if targets else found, read_lock(), device)
    listed = [cost for change in found.values() if (cost := costs.cost(change)) is not None]
    if form is Format.json:
        return _say_json(as_json(found, listed, device))
    shown = [cost for cost in listed if cost.runs or everything]
    trees, title = branches(found, everything=everything), summary(found)
    if form is Format.markdown:
        print(f"{title}.\n")
        print("\n".join(markdown_tree(trees)))
        print(f"\n{markdown_grid(cost_grid(shown, device, costs.notes, everything=everything))}" if shown else "")
        return None
    console = Console()
    console.print(rich_tree(trees, title))
    if everything:
        unchanged = [name for name, change in found.items() if not change.runs]
        console.print(Text(f"unchanged: {', '.join(unchanged)}" if unchanged else "", style="dim"))
    if shown:
        console.print()
        console.print(rich_grid(cost_grid(shown, device, costs.notes, everything=everything)))
    return None


def _say_grids(grids: list[Grid], form: Format) -> None:
    if form is Format.markdown:
        print("\n\n".join(map(markdown_grid, grids)))
        return
    console = Console()
    for grid in grids:
        console.print(rich_grid(grid))
        console.print()


def _say_json(values: Any) -> None:
    print(json.dumps(values, ensure_ascii=False, indent=2, allow_nan=False))


@app.command(
    name="advise", epilog="Example: ladder advise --gap style --prompted yes --data examples --rows 2000 --gpu rtx4090"
)
def advise_command(
    gap: Annotated[str, typer.Option(help=" | ".join(QUESTIONS[0].answers))] = "",
    prompted: Annotated[str, typer.Option(help=" | ".join(QUESTIONS[1].answers))] = "",
    data: Annotated[str, typer.Option(help=" | ".join(QUESTIONS[2].answers))] = "",
    rows: Annotated[str, typer.Option(help="Number of examples, pairs or prompts that you have.")] = "",
    gpu: Annotated[str, typer.Option(help="h200, h100, a100-80, a100-40, l40s, rtx4090, rtx3090, t4 or cpu.")] = "",
    model: Annotated[str, typer.Option(help="Model to train: a built-in name or a folder.")] = "SmolLM2-135M",
    as_json_: Annotated[bool, typer.Option("--json", help="Print JSON; then every question needs its option.")] = False,
) -> None:
    """Walk the decision table in five questions, and end with a method, a recipe and the next command."""
    given = {"gap": gap, "prompted": prompted, "data": data, "rows": rows, "gpu": gpu}
    if as_json_ or not sys.stdin.isatty():
        if missing := [f"--{name}" for name, value in given.items() if not value]:
            raise UserError(f"{missing[0]}: missing; expected an answer where questions cannot be asked. Give it")
        answers = checked(given)
    else:
        answers = ask(given)
    advice = advise(answers, model)
    if as_json_:
        return _say_json(vars(advice))
    return _say_advice(advice)


def _say_advice(advice: Advice) -> None:
    console = Console()
    console.print(Text(advice.method, style="bold"))
    for label, text in (
        ("why", advice.why),
        ("first", advice.first),
        ("memory", advice.memory),
        ("measure", advice.measure),
    ):
        if text:
            console.print(Text(f"{label}: {text}"))
    for command in advice.commands:
        console.print(Text(f"  {command}"), soft_wrap=True)
    console.print(Text(f"read: {advice.page}"))


def main() -> None:
    """Run one command; a UserError is one line on stderr, with exit code 1."""
    try:
        app()
    except UserError as refusal:
        sys.exit(f"ladder: {refusal}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
