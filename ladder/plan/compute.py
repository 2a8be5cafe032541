"""FLOPs of training and generation, and the time that they take at measured rates (ladder/plan/rates.json)."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ladder.data.jsonl import read_json
from ladder.pipeline.errors import UserError
from ladder.plan.adapters import Adapter
from ladder.plan.memory import Method, cache_bytes, weight_bytes
from ladder.plan.published import MODELS
from ladder.plan.weights import Weight, completed, heads, parameters, weights, whole

SLOTS = 512
"""Rows that the decoder generates at a time, at most."""


@dataclass(frozen=True)
class Time:
    """Seconds of a piece of work."""

    seconds: float
    measured: bool
    """Whether the rate was measured on this machine; otherwise it is scaled by published peaks."""


@cache
def rates() -> dict[str, Any]:
    """Return the measured rates and the published peaks of other GPUs."""
    found: dict[str, Any] = read_json(Path(__file__).with_name("rates.json"))
    return found


def gpu(name: str) -> dict[str, Any]:
    """Return a GPU's published peaks. Errors: UserError that lists the known GPUs."""
    known = rates()["gpus"]
    if name not in known:
        raise UserError(f"--gpu: expected one of {', '.join([*known, 'cpu'])}, got {name!r}")
    found: dict[str, Any] = known[name]
    return found


def active(config: dict[str, Any], found: list[Weight]) -> float:
    """Return the weights that multiply one token: no input embedding, and only the experts it is sent to."""
    text = completed(config)
    count = int(text.get("num_local_experts") or text.get("num_experts") or 1)
    share = whole(text, "num_experts_per_tok", 1) / count if count > 1 else 1.0
    return sum(
        each.size * (share if each.part == "experts" else 1.0)
        for each in found
        if each.part not in ("embedding", "vision") and len(each.shape) > 1
    )


def forward_flops(config: dict[str, Any], found: list[Weight], context: float) -> tuple[float, float]:
    """Return the FLOPs of one token's forward pass, (products with weights, causal attention).

    `context` is the mean length of a token's row, sum(length^2) / sum(length).
    """
    text = completed(config)
    queries, _, head = heads(text)
    return 2.0 * active(config, found), 2.0 * context * queries * head * whole(text, "num_hidden_layers")


def training_flops(
    config: dict[str, Any], found: list[Weight], adapter: Adapter | None, context: float, *, checkpointing: bool = False
) -> float:
    """Return the FLOPs of training on one token: 6P + 3A for all weights, 4P + 3A and the adapter's 6 for LoRA."""
    products, attention = forward_flops(config, found, context)
    flops = (3 if adapter is None else 2) * products + 3 * attention
    flops += 0 if adapter is None else 6.0 * adapter.low_rank
    return flops + (products + attention if checkpointing else 0.0)


def _interpolated(points: list[tuple[float, float]], at: float) -> float:
    """Interpolate y over log(x), constant beyond the ends."""
    points = sorted(points)
    places = [x for x, _ in points]
    place = bisect_left(places, at)
    if place in (0, len(points)):
        return points[min(place, len(points) - 1)][1]
    (x0, y0), (x1, y1) = points[place - 1], points[place]
    part = math.log(at / x0) / math.log(x1 / x0)
    return y0 ** (1 - part) * y1**part


@cache
def _mfu(model: str, method: str, tokens_per_second: float) -> tuple[float, float]:
    """Return (parameters, measured share of the measured matmul peak) of a row of the rates."""
    config, measured = MODELS[model].config, rates()["measured_on"]
    found = weights(config)
    one = Adapter(0) if method == "lora" else None
    flops = training_flops(config, found, one, measured["context"]) * tokens_per_second
    return float(parameters(found)), flops / (measured["matmul_tflops"] * 1e12)


def training_time(flops: float, count: float, method: Method, name: str, *, packed: bool) -> Time:
    """Return the time of training FLOPs on a model of `count` parameters."""
    found = rates()
    if name == "cpu":
        return Time(flops / (found["cpu"]["training_tflops"] * 1e12), True)
    kind = "full" if method == "full" else "lora"
    points = [_mfu(row["model"], kind, row["tokens_per_second"]) for row in found["training"] if row["method"] == kind]
    share = _interpolated(points, count)
    if packed:
        gains = [(float(MODELS[row["model"]].parameters), row["packed"] / row["padded"]) for row in found["packing"]]
        share *= _interpolated(gains, count)
    measured = found["measured_on"]
    slower = found["gpus"][measured["gpu"]]["tflops"] / gpu(name)["tflops"]
    seconds = flops / (share * measured["matmul_tflops"] * 1e12) * found["relative"].get(method, 1.0) * slower
    return Time(seconds, name == measured["gpu"])


def generation_time(
    config: dict[str, Any], found: list[Weight], rows: int, prompt: float, new: float, name: str
) -> Time:
    """Return the time of generating `new` tokens for each of `rows` prompts of `prompt` tokens.

    A step of the decoder reads the weights and the cache once; the rate is the measured share of that floor.
    """
    if name == "cpu":
        flops = sum(forward_flops(config, found, prompt + new / 2)) * rows * new
        return Time(flops / (rates()["cpu"]["generation_tflops"] * 1e12), True)
    text, measured = completed(config), rates()["measured_on"]
    slots = min(rows, SLOTS) or 1
    step = weight_bytes(found, "lora") + slots * cache_bytes(text, int(prompt + new / 2))
    points = [(float(MODELS[row["model"]].parameters), row["share_of_floor"]) for row in rates()["generation"]]
    share = _interpolated(points, float(parameters(found)))
    slower = rates()["gpus"][measured["gpu"]]["terabytes_per_second"] / gpu(name)["terabytes_per_second"]
    bandwidth = measured["copy_terabytes_per_second"] * 1e12 / slower
    return Time(math.ceil(rows / slots) * new * step / bandwidth / share, name == measured["gpu"])
