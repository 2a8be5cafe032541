"""Merge the weights of rungs with mergekit.

Common merge methods, with weights w_i, models theta_i and base theta_0:
    linear                 sum_i w_i theta_i / sum_i w_i (Wortsman et al. 2022)
    slerp                  spherical interpolation between two models
    task_arithmetic        theta_0 + lambda sum_i w_i (theta_i - theta_0); a negative weight unlearns
                           (Ilharco et al. 2023)
    ties                   task arithmetic on the large entries of each difference that agree with the majority's sign
                           (Yadav et al. 2023)
    dare_linear, dare_ties linear or ties on random subsets of each difference (Yu et al. 2024)
    passthrough            layers stacked
mergekit's other methods work too.

python -m stages.merge soup data/merge_input/soup models/base models/merge/soup metrics/merge/soup.json
"""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from mergekit.common import dtype_from_name
from mergekit.graph import Executor
from peft import PeftModel
from pydantic import AfterValidator, Field
from safetensors import safe_open
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, set_seed

from ladder.data.atomic_write import scratch
from ladder.data.jsonl import read_json
from ladder.models.checkpoint import SHARD, device, ledger, load_complete, read_rung, rung_name, save_rung
from ladder.models.lora_settings import beyond
from ladder.models.merge_config import merge_config
from ladder.models.merge_preflight import Plan, merge_tasks, plan
from ladder.models.weights import clear_sampling, finite, read_adapter, read_generation, read_tokenizer
from ladder.pipeline.stage import Config, UserError, run

# LoRA settings that peft can add to another adapter without loss.
ADDABLE = {"r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "lora_dropout", "use_rslora"}


class Params(Config):
    parents: list[str] = Field(min_length=1)
    """The rungs to merge, as `config` names them. `slerp` takes two, other methods any number."""
    keep: Literal["complete", "adapter"] = "complete"
    """Kind of the result: a complete model, or an adapter.

    An adapter needs a weighted sum of two adapters; its rank is the sum of their ranks.
    """
    seed: int
    """Seed of DARE's random masks."""
    config: Annotated[dict[str, Any], AfterValidator(merge_config)]
    """mergekit's configuration: merge_method, models with parameters, dtype. Its models are names of rungs.

    An adapter is first added to the base's weights in `dtype` (float32 by default). Differences between rungs are
    small beside bfloat16's rounding steps: `dtype: float32` with `out_dtype: bfloat16` rounds once, at the end.
    """


def adapter_weights(planned: Plan, parents: list[Path]) -> list[float]:
    """Return the weight c_i of each parent's adapter, where the merge is a weighted sum of adapters on one base.

    The sum of c_i over all models must be 1; the base counts as a model with a difference of zero. Then
    sum_i c_i (theta + B_i A_i) = theta + sum_i c_i B_i A_i.
    Errors: UserError when the merge is not a weighted sum of adapters.
    """
    method, rungs = planned.config["merge_method"], [read_rung(parent) for parent in parents]
    if method not in ("linear", "task_arithmetic") or "slices" in planned.config:
        raise UserError(
            f"keep: adapter: this merge by {method} is no sum of adapters. Use linear or task_arithmetic on models."
        )
    for parent, rung in zip(parents, rungs, strict=True):
        if rung.kind != "adapter":
            raise UserError(f"keep: adapter: {rung.rung} is a complete model. Use keep: complete.")
        if rung.quantization is not None:
            raise UserError(f"keep: adapter: {rung.rung} was trained on quantized weights. Use keep: complete.")
        other = beyond(parent, ADDABLE)
        if other:
            raise UserError(f"keep: adapter: {rung.rung} has {other}. Use keep: complete.")
    shares = [planned.shares(number) for number in range(len(planned.tasks))]
    if any(each != shares[0] for each in shares):
        raise UserError("keep: adapter: the weights differ between tensors. Use keep: complete.")
    if abs(sum(shares[0].values()) - 1) > 1e-6:
        raise UserError(
            "keep: adapter: expected weights that sum to 1; another sum also scales the base. Use keep: complete."
        )
    return [shares[0].get(rung.rung, 0.0) for rung in rungs]


def sum_of_adapters(weights: list[float], parents: list[Path], base: Path) -> PeftModel:
    """Return the base with one adapter, sum_i c_i B_i A_i: each A_i scaled by its c_i, all stacked (peft's `cat`)."""
    ground: Any = load_complete(base, base, dtype=torch.float32).model  # peft gives the new adapter its dtype
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
    """Merge with mergekit and return the model. Complete rungs are read in place; adapters are first merged to copies.

    Errors: UserError when the result lacks a tensor or holds NaN or infinity.
    """
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
        raise UserError(
            f"merge: mergekit wrote no {missing[0]}, which a model of type {planned.output.model_type} needs"
        )
    if (base / "generation_config.json").is_file():
        model.generation_config = read_generation(base)
    if bad := finite(model):  # mergekit carries NaN or infinity from any parent to the result
        raise UserError(f"merge: {bad} of the result has NaN or infinite values: {not_finite(planned, paths)}")
    return model


def not_finite(planned: Plan, paths: dict[str, Path]) -> str:
    """Name the first tensor of the merged models that holds NaN or infinity."""
    for name in planned.sources:
        for path in sorted(paths[name].glob("*.safetensors")):
            with safe_open(path, "pt") as tensors:
                for tensor in tensors.keys():  # noqa: SIM118
                    if not torch.isfinite(tensors.get_tensor(tensor)).all():
                        return f"they are in {name}'s {tensor}. Remake that rung."
    return f"all models are finite, but a weight is too large for {planned.output.dtype}"


def linked(params: Params, links: Path) -> list[Path]:
    """Return the folders of the parents. `links` has one file of stage merge_input for each.

    Errors: UserError when a parent has no link, a link has no parent, or a parent is no longer what its link names.
    """
    found = []
    expected = {f"{place}.json" for place in range(len(params.parents))}
    if extra := sorted({path.name for path in links.glob("*")} - expected):
        raise UserError(
            f"{links / extra[0]}: the merge has {len(params.parents)} parents; expected no such file. "
            "`ladder prune` removes it"
        )
    for place, name in enumerate(params.parents):
        path = links / f"{place}.json"
        link = read_json(path)
        directory = Path(str(link.get("directory")))
        rung = read_rung(directory)
        if (name, rung.identity) != (link.get("rung"), link.get("identity")):
            raise UserError(
                f"{path}: expected {name} as it is in {directory}, got {link.get('rung')} with another identity or "
                "name; `dvc repro` makes the link again"
            )
        found.append(directory)
    return found


def main(params: Params, links: Path, base: Path, output: Path, metrics: Path) -> None:
    """Merge rungs and save the result to `output`, with the first parent's tokenizer.

    links: folder with one link of stage merge_input for each parent.
    Errors: UserError when the merge does not fit the rungs, or its result is not finite.
    """
    parents = linked(params, links)
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
            read_tokenizer(parents[0]),
            rung=rung_name(output),
            method="merge",
            parents={name: source.rung for name, source in planned.sources.items()},
            base=read_rung(base) if params.keep == "adapter" else None,
            settings=params.model_dump(),
        )
    ledger(metrics, made, time.monotonic() - started, {})


if __name__ == "__main__":
    run(main, named=True)
