"""Render plans as rich tables, as Markdown, and as JSON."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ladder.pipeline.seeds import original
from ladder.plan.changes import Change, counts
from ladder.plan.compute import Time, gpu
from ladder.plan.costs import Cost
from ladder.plan.model import ModelPlan

FITS = 0.95
"""Share of a GPU's memory that a plan may use; the rest is for fragmentation."""
LABELS = {"full": "all weights", "lora": "LoRA", "dora": "DoRA", "qlora": "QLoRA"}


@dataclass(frozen=True)
class Grid:
    """A table as text: a title, column names and rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def rich_grid(grid: Grid) -> RenderableType:
    """Return a table that shrinks to the terminal; the first column is left-aligned."""
    table = Table(header_style="bold", box=None)
    for place, column in enumerate(grid.columns):
        table.add_column(column, justify="right" if place else "left", overflow="fold")
    for row in grid.rows:
        table.add_row(*map(escape, row))
    return Group(Text(grid.title, style="bold"), table, *(Text(note, style="dim") for note in grid.notes))


def markdown_grid(grid: Grid) -> str:
    """Return a Markdown table."""
    lines = [f"**{grid.title}**", "", _line(grid.columns), _line("---" for _ in grid.columns), *map(_line, grid.rows)]
    return "\n".join([*lines, *(["", *grid.notes] if grid.notes else [])])


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def number(value: float | None) -> str:
    """Format a count with three digits: 41.9M."""
    if value is None:
        return "?"
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}" if abs(value) < 999.5 * size else f"{value / size:.0f}{unit}"
    return f"{value:.0f}"


def gigabytes(value: float | None) -> str:
    """Format bytes as GB (1e9 bytes)."""
    return "?" if value is None else f"{value / 1e9:.1f}" if value >= 0.05e9 else f"{value / 1e9:.2f}"


def duration(value: float | None) -> str:
    """Format seconds: 12 s, 3 min, 2.5 h, 4.1 d."""
    if value is None:
        return "?"
    if value < 100:
        return f"{value:.0f} s"
    if value < 5400:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.1f} h" if value < 48 * 3600 else f"{value / 86400:.1f} d"


def _time(time: Time | None) -> str:
    return "?" if time is None else duration(time.seconds) + ("" if time.measured else " est.")


def model_grids(plan: ModelPlan) -> list[Grid]:
    """Return the tables of a model's plan: parameters, memory by part, LoRA ranks."""
    parts = Grid(
        f"{plan.name}: {plan.parameters:,} parameters",
        ("part", "parameters", "share"),
        tuple((part, f"{count:,}", f"{count / plan.parameters:.1%}") for part, count in plan.parts.items()),
        (f"Configuration: {plan.origin}.",) if plan.origin else (),
    )
    ranks = Grid(
        "Trainable parameters of LoRA",
        ("r", *(f"{label}" for label in plan.ranks), "share of all"),
        tuple(
            (
                str(rank),
                *(number(table[rank]) for table in plan.ranks.values()),
                f"{list(plan.ranks.values())[-1][rank] / plan.parameters:.2%}",
            )
            for rank in next(iter(plan.ranks.values()), {})
        ),
        ("DoRA adds one magnitude for each output of an adapted layer; rsLoRA has the same number.",),
    )
    return [parts, _memory_grid(plan), ranks]


def _memory_grid(plan: ModelPlan) -> Grid:
    rows: list[tuple[str, ...]] = []
    memories = [one.memory for one in plan.methods]
    for label, field in (
        ("weights", "weights"), ("adapter", "adapter"), ("gradients", "gradients"), ("optimizer", "optimizer"),
        ("bf16 copies, dequantized", "copies"), ("activations", "activations"), ("loss", "loss"),
        ("backward pass", "transient"), ("peak", "peak"), ("with the CUDA context", "on_gpu"),
    ):  # fmt: skip
        rows.append((f"{label}, GB", *(gigabytes(getattr(each, field)) for each in memories)))
    rows.append(("trainable", *(number(one.trainable) for one in plan.methods)))
    rows.append(("GFLOPs a token", *(f"{one.flops_per_token / 1e9:.1f}" for one in plan.methods)))
    if plan.tokens:
        rows.append((f"time, {number(plan.tokens)} tokens", *(_time(one.time) for one in plan.methods)))
    if plan.gpu != "cpu":
        room = gpu(plan.gpu)["memory_gb"] * 1e9 * FITS
        rows.append((f"fits {plan.gpu}", *("yes" if each.on_gpu <= room else "no" for each in memories)))
    step = plan.step
    settings = [f"{step.tokens:,} tokens a micro-batch", f"r {plan.rank}", step.optimizer]
    settings += [name for name in ("checkpointing", "packed", "liger") if getattr(step, name)]
    return Grid(
        f"Memory of a training step ({', '.join(settings)})",
        ("", *(LABELS[one.method] for one in plan.methods)),
        tuple(rows),
        (
            "The peak is less than the sum: the loss and the backward pass of a layer do not overlap, and with all "
            "weights trained gradients replace activations.",
            f"Generation: {plan.cache_per_token / 1e3:.1f} kB of key-value cache a token and row. "
            "DPO needs no reference model: its log-probabilities are cached, or the adapter is off.",
        ),
    )


def cost_grid(costs: list[Cost], device: str, notes: Iterable[str] = (), *, everything: bool = False) -> Grid:
    """Return the table of costs. Without `everything`, stages of the same name that only generate are one line."""
    rows = []
    for cost in costs if everything else merged(costs):
        bound = "≤" if cost.basis == "params" else "~" if cost.basis == "last run" else ""
        calls, money = _calls(cost), _money(cost)
        rows.append(
            (
                cost.name, cost.method, number(cost.trainable) if cost.trainable else "", gigabytes(cost.bytes),
                f"{bound}{number(cost.tokens)}" if cost.tokens is not None else "?",
                number(cost.flops) if cost.flops else "?", _time(cost.time) if cost.time else "?",
                duration(cost.last_seconds) if cost.last_seconds else "", calls, money,
            )
        )  # fmt: skip
    total = sum(cost.time.seconds for cost in costs if cost.time and cost.runs)
    columns = ("stage", "method", "trainable", "GB", "tokens", "FLOPs", f"time, {device}", "last run", "calls", "money")
    keep = [place for place in range(10) if place < 7 or any(row[place] for row in rows)]
    unknown = sum(cost.time is None for cost in costs if cost.runs)
    return Grid(
        "Costs of the stages that train or generate",
        tuple(columns[place] for place in keep),
        tuple(tuple(row[place] for place in keep) for row in rows),
        (
            f"Together {duration(total)} on {device}, one stage at a time"
            + (f"; {unknown} stages of unknown time." if unknown else "."),
            "≤ is an upper bound from params.yaml, ~ is from the sizes of the last run, est. is scaled by published "
            "peaks. GB is the peak on a GPU.",
            *notes,
        ),
    )


def _calls(cost: Cost) -> str:
    known = [one.calls for one in cost.endpoints]
    return "" if not known else "?" if None in known else f"≤{sum(each or 0 for each in known):,}"


def _money(cost: Cost) -> str:
    known = [one.money for one in cost.endpoints]
    return "" if not known else "?" if None in known else f"≤{sum(each or 0 for each in known):.2f}"


def merged(costs: list[Cost]) -> list[Cost]:
    """Return the costs with one line for stages of one name that generate, and for a training and its replicas.

    Tokens, FLOPs and time are sums.
    """
    groups: dict[tuple[str, str], list[Cost]] = {}
    for cost in costs:
        same = cost.name.split("@")[0] if cost.method == "generate" else original(cost.name)
        groups.setdefault((same, cost.method), []).append(cost)
    return [one[0] if len(one) == 1 else _sum(f"{name} ({len(one)})", one) for (name, _), one in groups.items()]


def _sum(name: str, costs: list[Cost]) -> Cost:
    known = [cost for cost in costs if cost.time is not None and cost.tokens is not None]
    time = Time(
        sum(cost.time.seconds for cost in known if cost.time), all(cost.time.measured for cost in known if cost.time)
    )
    trainable = {cost.trainable for cost in costs}
    return Cost(
        name, costs[0].method, any(cost.runs for cost in costs), trainable.pop() if len(trainable) == 1 else None, None,
        max((cost.bytes for cost in costs if cost.bytes), default=None),
        sum(cost.tokens for cost in known if cost.tokens) if known else None, costs[0].basis,
        sum(cost.flops for cost in known if cost.flops) if known else None, time if known else None,
    )  # fmt: skip


def summary(found: dict[str, Change]) -> str:
    """Return one line: how many stages run, come from the cache, and are unchanged."""
    known = counts(found)
    return (
        f"{known['run']} of {len(found)} stages would run, {known['restored']} come from the cache, "
        f"{known['unchanged']} are unchanged"
    )


def as_json(found: dict[str, Change], costs: list[Cost], device: str) -> dict[str, Any]:
    """Return the plan of the graph as JSON values."""
    by_name = {cost.name: cost for cost in costs}
    return {
        "device": device,
        "counts": {kind: counts(found)[kind] for kind in ("run", "restored", "unchanged")},
        "stages": [
            {
                "stage": name,
                "runs": change.runs,
                "restored": change.restored,
                "reasons": [asdict(reason) for reason in change.reasons],
                "cost": _cost_json(by_name[name]) if name in by_name else None,
            }
            for name, change in found.items()
        ],
    }


def _cost_json(cost: Cost) -> dict[str, Any]:
    values = asdict(cost)
    return {key: values[key] for key in values if key not in ("name", "runs")}


def model_json(plan: ModelPlan) -> dict[str, Any]:
    """Return a model's plan as JSON values."""
    return asdict(plan)
