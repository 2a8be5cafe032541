"""Merge two rungs' weights with mergekit.

linear: sum_i w_i theta_i / sum_i w_i (Wortsman et al. 2022) · slerp: along the arc between two · task_arithmetic:
theta_0 + lambda sum_i w_i (theta_i - theta_0), a negative weight unlearns (Ilharco et al. 2023) · ties: the same over
what of each difference is large and has the majority's sign (Yadav et al. 2023) · dare_linear, dare_ties: over random
parts of each difference (Yu et al. 2024) · passthrough: layers stacked · and mergekit's others.

python -m stages.merge soup models/sft/chat models/dpo/chat models/base models/merge/soup metrics/merge/soup.json
"""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from mergekit.common import dtype_from_name
from mergekit.graph import Executor
from peft import PeftModel
from pydantic import AfterValidator
from safetensors import safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, set_seed

from ladder.data.atomic_write import scratch
from ladder.models.checkpoint import SHARD, device, ledger, load_complete, read_rung, rung_name, save_rung
from ladder.models.lora_settings import beyond
from ladder.models.merge_config import merge_config
from ladder.models.merge_preflight import Plan, merge_tasks, plan
from ladder.models.weights import clear_sampling, finite, read_adapter, read_generation, read_tokenizer
from ladder.pipeline.stage import Config, UserError, run

# What a LoRA adapter may set and still be one that peft adds to another without loss.
ADDABLE = {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "lora_dropout", "use_rslora"}


class Params(Config):
    parents: tuple[str, str]
    """The two rungs, as the config names them."""
    keep: Literal["complete", "adapter"] = "complete"
    """What the result is: a complete model, or, of two adapters' weighted sum, an adapter (its rank is their sum)."""
    seed: int
    """Of DARE's random masks."""
    config: Annotated[dict[str, Any], AfterValidator(merge_config)]
    """mergekit's configuration: merge_method, models with parameters, dtype; its models are rungs' names.

    An adapter is added to the base's weights first, in `dtype` (float32 without one). Differences between rungs are
    small beside a bfloat16's steps: `dtype: float32` with `out_dtype: bfloat16` rounds once, at the end.
    """


def adapter_weights(planned: Plan, parents: list[Path]) -> list[float]:
    """The weight of each parent's adapter, where the merge is a weighted sum of adapters on one base.

    With sum_i c_i = 1 over all models, the base among them with a difference of zero,
    sum_i c_i (theta + B_i A_i) = theta + sum_i c_i B_i A_i. Errors: UserError where that is not so.
    """
    method, rungs = planned.config["merge_method"], [read_rung(parent) for parent in parents]
    if method not in ("linear", "task_arithmetic") or "slices" in planned.config:
        raise UserError(
            f"keep: adapter: {method} of these is no sum of adapters; use linear or task_arithmetic on models"
        )
    for parent, rung in zip(parents, rungs, strict=True):
        if rung.kind != "adapter":
            raise UserError(f"keep: adapter: {rung.rung} is a complete model; use keep: complete")
        if rung.quantization is not None:
            raise UserError(f"keep: adapter: {rung.rung} stands on quantized weights; use keep: complete")
        other = beyond(parent, ADDABLE)
        if other:
            raise UserError(f"keep: adapter: {rung.rung} has {other}; use keep: complete")
    shares = [planned.shares(number) for number in range(len(planned.tasks))]
    if any(each != shares[0] for each in shares):
        raise UserError("keep: adapter: the weights differ from tensor to tensor; use keep: complete")
    if abs(sum(shares[0].values()) - 1) > 1e-6:
        raise UserError("keep: adapter: the weights' sum is not 1, which scales the base as well; use keep: complete")
    return [shares[0].get(rung.rung, 0.0) for rung in rungs]


def sum_of_adapters(weights: list[float], parents: list[Path], base: Path) -> PeftModel:
    """The base with one adapter, sum_i c_i B_i A_i: each A_i scaled by its c_i, all stacked (peft's `cat`)."""
    ground: Any = load_complete(base, base, dtype=torch.float32).model  # of whose dtype peft makes the new adapter
    names = [f"parent{number}" for number in range(len(parents))]
    for name, parent in zip(names, parents, strict=True):
        if name == names[0]:
            model: Any = read_adapter(ground, parent, name=name)
        else:
            model.load_adapter(str(parent), adapter_name=name)
    model.peft_config[names[0]].use_rslora = False  # peft copies it to the sum, whose scaling must be 1
    model.add_weighted_adapter(names, weights, "default", combination_type="cat")
    model.set_adapter("default")
    for name in names:
        model.delete_adapter(name)
    return model


def merged_weights(planned: Plan, base: Path, folder: Path, seed: int) -> Any:
    """The merged model, by mergekit. Complete rungs are read where they are; of an adapter a complete copy is made."""
    paths = {}
    dtype = dtype_from_name(planned.config.get("dtype")) or torch.float32
    for number, (name, source) in enumerate(planned.sources.items()):
        paths[name] = source.directory.resolve()
        if source.rung.kind == "adapter":
            paths[name] = folder / str(number)
            whole = load_complete(source.directory, base, dtype=dtype).model
            clear_sampling(whole)
            whole.save_pretrained(paths[name], max_shard_size=SHARD)
    tasks, _ = merge_tasks(planned.config, paths, planned.output)
    set_seed(seed)
    state = {}
    for task, tensor in Executor(tasks, math_device=device()).run(quiet=True):
        state[task.output_weight.name] = tensor.to(planned.output.dtype, copy=True)  # stacked layers may share one
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(planned.output)]
    model, report = kind.from_pretrained(
        None, config=planned.output, state_dict=state, dtype=planned.output.dtype, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):
        raise UserError(f"the merge has no {missing[0]}, which {planned.output.model_type} needs; mergekit left it out")
    if (base / "generation_config.json").is_file():
        model.generation_config = read_generation(base)
    if bad := finite(model):  # mergekit carries it from any parent to the result
        raise UserError(f"the merge's {bad} holds NaN or infinity; {not_finite(planned, paths)}")
    return model


def not_finite(planned: Plan, paths: dict[str, Path]) -> str:
    """Where the first NaN or infinity among the merged models stands."""
    for name in planned.sources:
        for path in sorted(paths[name].glob("*.safetensors")):
            with safe_open(path, "pt") as tensors:
                for tensor in tensors.keys():  # noqa: SIM118
                    if not torch.isfinite(tensors.get_tensor(tensor)).all():
                        return f"it is in {name}'s {tensor}: make that rung again"
    return f"all models are finite: a weight is too large for {planned.output.dtype}"


def main(params: Params, first: Path, second: Path, base: Path, output: Path, metrics: Path) -> None:
    parents = [first, second]
    planned = plan(params.config, parents, base)
    weights = adapter_weights(planned, parents) if params.keep == "adapter" else None
    if remark := planned.remark():
        print(f"merge: {remark}", flush=True)
    started = time.monotonic()
    with scratch(output) as folder:
        if weights is not None:
            model = sum_of_adapters(weights, parents, base)
        else:
            model = merged_weights(planned, base, folder, params.seed)
        made = save_rung(
            output,
            model,
            read_tokenizer(first),
            rung=rung_name(output),
            method="merge",
            parents={name: source.rung for name, source in planned.sources.items()},
            base=read_rung(base) if params.keep == "adapter" else None,
            settings=params.model_dump(),
        )
    ledger(metrics, made, time.monotonic() - started, {})


if __name__ == "__main__":
    run(main, named=True)
