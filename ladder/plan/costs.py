"""What each rung costs: trainable parameters, memory, tokens, FLOPs, time, API calls and money."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.plan.changes import Change
from ladder.plan.compute import Time, forward_flops, generation_time, training_flops, training_time
from ladder.plan.expand import Stage
from ladder.plan.memory import Memory, Step, cache_bytes, memory, weight_bytes
from ladder.plan.rows import Rows, batch_rows, longest_row, rows_of, setting, steps_tokens
from ladder.plan.rungs import Rungs
from ladder.plan.sources import UnknownConfigError
from ladder.plan.weights import completed, parameters

PROMPT = 300
"""Assumed tokens of a prompt where its data is not there."""


@dataclass(frozen=True)
class Endpoint:
    """Requests of a stage to one endpoint; each number is an upper bound, or None if params.yaml does not bound it."""

    model: str
    calls: int | None
    money: float | None


@dataclass(frozen=True)
class Cost:
    """Costs of one stage. A number that cannot be known before the run is None."""

    name: str
    method: str
    """`LoRA r16`, `all weights`, `generate`, …"""
    runs: bool
    trainable: int | None = None
    memory: Memory | None = None
    """Peak of a training step on a GPU."""
    bytes: float | None = None
    """Peak in bytes, of training or of generation."""
    tokens: float | None = None
    basis: str = "unknown"
    """Where `tokens` is from: `data`, `last run` or `params` (an upper bound)."""
    flops: float | None = None
    time: Time | None = None
    last_seconds: float | None = None
    """Seconds of the last run, from its committed metrics, on the device of that run."""
    endpoints: tuple[Endpoint, ...] = ()


class Costs:
    """Costs of stages on a GPU (or `cpu`), with the configurations of their models."""

    def __init__(self, found: dict[str, Change], lock: dict[str, Any], gpu: str) -> None:
        self.found, self.lock, self.gpu = found, lock, gpu
        self.makers = {out: change.stage for change in found.values() for out in change.stage.outs}
        self.notes: dict[str, None] = {}
        """Why some numbers are unknown, each once."""
        self.rungs = Rungs(self.makers)

    def all(self) -> list[Cost]:
        """Return the costs of the stages that train, generate or ask an endpoint."""
        return [cost for change in self.found.values() if (cost := self.cost(change)) is not None]

    def cost(self, change: Change) -> Cost | None:
        """Return the costs of one stage; None for a stage that has none worth a line."""
        stage = change.stage
        endpoints = tuple(self._endpoints(stage))
        if isinstance(stage.values.get("trainer"), dict):
            try:
                return self._training(change, endpoints)
            except UnknownConfigError as error:
                self.notes[str(error)] = None
                return Cost(stage.name, "training", change.runs, endpoints=endpoints)
        asked = dict(self._generated(stage))
        if endpoints:
            return Cost(stage.name, "endpoint", change.runs, endpoints=endpoints)
        return self._generation(change, asked) if asked else None

    def _training(self, change: Change, endpoints: tuple[Endpoint, ...]) -> Cost:
        stage, values = change.stage, change.stage.values
        trainer = values["trainer"]
        config, found = self.rungs.model(f"models/{values.get('parent')}")
        method, made, rank = self.rungs.adapter_of(stage)
        names = {"full": "all weights", "lora": f"LoRA r{rank}", "dora": f"DoRA r{rank}", "qlora": f"QLoRA r{rank}"}
        rows = self._rows(stage)
        tokens, basis = steps_tokens(stage, rows)
        rollouts = bool(trainer.get("num_generations") or values.get("samples_every"))
        if rollouts:
            basis = "params"
            tokens = float(setting(stage, "max_steps", 0)) * batch_rows(stage) * (longest_row(stage) or 0) or None
        packed, checkpointing = bool(trainer.get("packing")), bool(trainer.get("gradient_checkpointing"))
        longest = min(filter(None, (longest_row(stage), rows.longest)), default=None)
        peak = None
        if longest is not None:
            batch = setting(stage, "per_device_train_batch_size", 8) * (2 if stage.kind in PAIRS else 1)
            prompt = (int(rows.tokens / rows.rows) if rows.tokens and rows.rows else PROMPT) if rollouts else 0
            step = Step(
                tokens=batch * (longest + prompt),
                method=method,
                optimizer=_optimizer(str(trainer.get("optim", "adamw"))),
                checkpointing=checkpointing,
                packed=packed,
                liger=bool(trainer.get("use_liger_kernel")),
                full_logits=bool(values.get("teacher")),
                accumulated=setting(stage, "gradient_accumulation_steps", 1) > 1,
                reference=rollouts and bool(trainer.get("beta")),
            )
            peak = memory(config, found, step, made)
        bytes_ = None if peak is None else peak.peak + self._teacher_bytes(stage)
        flops = time = None
        if tokens is not None:
            context = float(longest or 512) / 2
            one = training_flops(config, found, made, context, checkpointing=checkpointing)
            count = float(parameters(found))
            flops = one * tokens
            time = training_time(flops, count, method, self.gpu, packed=packed)
            if rollouts:
                new = float(longest_row(stage) or 0)
                flops += tokens * sum(forward_flops(config, found, PROMPT + new / 2))
                sampled = generation_time(config, found, max(1, int(tokens / max(new, 1))), PROMPT, new, self.gpu)
                time = Time(time.seconds + sampled.seconds, time.measured)
        trainable = parameters(found) if made is None else made.trainable
        trainable += self._heads(stage, config) if made is None else 0
        return Cost(
            stage.name, names[method], change.runs, trainable, peak, bytes_, tokens, basis, flops, time,
            self.last_seconds(stage), endpoints,
        )  # fmt: skip

    def _heads(self, stage: Stage, config: dict[str, Any]) -> int:
        """Weights that are trained beside all of the model's: a scoring head, or projections to a teacher's layers."""
        text, values = completed(config), stage.values
        width = int(text["hidden_size"])
        if stage.kind == "reward":
            return width
        if not values.get("hidden") or not values.get("teacher"):
            return 0
        mapped = values.get("layers")
        layers = len(mapped) if isinstance(mapped, list | dict) else int(text["num_hidden_layers"])
        return layers * width * int(completed(self.rungs.model(f"models/{values['teacher']}")[0])["hidden_size"])

    def _teacher_bytes(self, stage: Stage) -> float:
        """Bytes of a teacher that is in memory beside the student; cached logits need none."""
        cached = any(dep.endswith(".safetensors") for dep in stage.deps)
        if not stage.values.get("teacher") or cached:
            return 0.0
        return weight_bytes(self.rungs.model(f"models/{stage.values['teacher']}")[1], "lora")

    def _rows(self, stage: Stage) -> Rows:
        paths = [dep for dep in stage.deps if dep.startswith("data/")]
        data = stage.values.get("data") or stage.values.get("prompts")
        path = next((each for each in paths if Path(each).with_suffix("") == Path("data", str(data))), None)
        if path is None:
            return Rows()
        if path.endswith(".safetensors") and path in self.makers:
            return self._rows(self.makers[path])
        return rows_of(path, self.found, self.lock, stage.values.get("split") or None)

    def last_seconds(self, stage: Stage) -> float | None:
        """Return the seconds of the last run, from its metrics in git."""
        for path in stage.outs:
            if path.startswith("metrics/") and Path(path).is_file():
                try:
                    found = parse_json(Path(path).read_text(encoding="utf-8")).get("seconds")
                except (ValueError, AttributeError):
                    return None
                return float(found) if isinstance(found, int | float) else None
        return None

    def _generated(self, stage: Stage) -> Iterator[tuple[int, int | None]]:
        """Iterate over (most new tokens of an answer, answers or None) of a stage that generates with a rung."""
        values = stage.values
        if isinstance(values.get("max_new_tokens"), int):
            if isinstance(values.get("rounds"), int) and isinstance(values.get("batch"), int):
                yield values["max_new_tokens"], values["rounds"] * values["batch"]
                return
            data = values.get("prompts") if isinstance(values.get("prompts"), str) else values.get("data")
            paths = [dep for dep in stage.deps if dep.startswith("data/") and dep.endswith(".jsonl")]
            path = next((each for each in paths if each == f"data/{data}.jsonl"), paths[0] if paths else None)
            rows = rows_of(path, self.found, self.lock, values.get("split")).rows if path else None
            times = values.get("samples") or 1
            yield values["max_new_tokens"], rows * times if rows and isinstance(times, int) else None
        elif stage.values and all(isinstance(each, dict) for each in stage.values.values()):
            parts = {name: each for name, each in stage.values.items() if isinstance(each.get("max_new_tokens"), int)}
            if parts:
                counts = [self._part_rows(stage, name, each) for name, each in parts.items()]
                known = [count for count in counts if count is not None]
                longest = max(each["max_new_tokens"] for each in parts.values())
                yield longest, sum(known) if len(known) == len(parts) else None

    def _part_rows(self, stage: Stage, name: str, part: dict[str, Any]) -> int | None:
        """Return how many prompts a stage answers for one named part of its section."""
        if isinstance(part.get("rows"), int) and part["rows"] > 0:
            return int(part["rows"])
        path = next((f"{dep}/{name}.jsonl" for dep in stage.deps if f"{dep}/{name}.jsonl" in self.makers), None)
        return rows_of(path, self.found, self.lock).rows if path else None

    @cached_property
    def _base(self) -> str:
        return "models/base"

    def _generation(self, change: Change, asked: dict[int, int | None]) -> Cost:
        stage = change.stage
        ours = [dep for dep in stage.deps if dep.startswith("models/") and dep != self._base] or [self._base]
        method, runs = "generate", change.runs
        try:
            config, found = self.rungs.model(ours[0])
        except UnknownConfigError as error:
            self.notes[str(error)] = None
            return Cost(stage.name, method, runs)
        new, answers = max(asked), next(iter(asked.values()))
        if answers is None:
            return Cost(stage.name, method, runs)
        tokens = float(new * answers)
        slots = min(answers, 512)
        size = weight_bytes(found, "lora") + slots * cache_bytes(completed(config), PROMPT + new)
        flops = tokens * sum(forward_flops(config, found, PROMPT + new / 2))
        time = generation_time(config, found, answers, PROMPT, new, self.gpu)
        return Cost(stage.name, method, runs, None, None, size, tokens, "params", flops, time, self.last_seconds(stage))

    def _endpoints(self, stage: Stage) -> Iterator[Endpoint]:
        """Iterate over the endpoints anywhere in a stage's section, with bounds of requests and money."""
        asked = next(iter(self._generated(stage)), None)
        for holder in _holders(stage.values):
            endpoint, budget = holder["endpoint"], holder.get("budget") or {}
            new, calls = asked if asked and holder is stage.values else (holder.get("max_new_tokens"), None)
            calls = min((each for each in (calls, budget.get("requests")) if each is not None), default=None)
            prices, money = endpoint.get("prices"), budget.get("money")
            if isinstance(prices, dict):
                most = _price(prices, calls, new, budget.get("tokens"))
                money = min((each for each in (money, most) if each is not None), default=None)
            yield Endpoint(str(endpoint.get("model")), calls, money)


PAIRS = frozenset({"dpo", "simpo", "orpo", "reward"})
"""Stages whose rows are pairs: a row of the batch is two sequences."""


def _price(prices: dict[str, Any], calls: int | None, new: int | None, tokens: int | None) -> float | None:
    """Return the most money that requests can cost; None if neither their number nor their tokens are bounded."""
    prompt, completion = (prices.get(name) for name in ("prompt", "completion"))
    if not isinstance(prompt, int | float) or not isinstance(completion, int | float):
        raise UserError(f"params.yaml: endpoint.prices: expected numbers for prompt and completion, got {prices}")
    bounds = [tokens * max(prompt, completion) / 1e6] if tokens is not None else []
    if calls is not None and new is not None:
        bounds.append(calls * (PROMPT * prompt + new * completion) / 1e6)
    return min(bounds, default=None)


def _holders(value: Any) -> Iterator[dict[str, Any]]:
    """Iterate over the sections, at any depth, that have an endpoint."""
    if isinstance(value, dict):
        if isinstance(value.get("endpoint"), dict):
            yield value
        for key, each in value.items():
            if key != "endpoint":
                yield from _holders(each)
    elif isinstance(value, list):
        for each in value:
            yield from _holders(each)


def _optimizer(name: str) -> str:
    """Return our name of an optimizer of transformers."""
    paged, small = "paged" in name, "8bit" in name
    return ("paged_adamw_8bit" if paged else "adamw_8bit") if small else "sgd" if name == "sgd" else "adamw"
