"""What every training stage shares: a trainer's arguments that are ours to set, the training, the rung, its ledger.

A training that was killed goes on where it was (ladder/training/checkpointing.py). Under a launcher
(ladder/pipeline/launch.py) every process runs the stage, rank zero alone writes, and a batch stays the batch of
params.yaml: the ranks share its accumulation.
"""

import copy
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import DistributedType, broadcast_object_list
from peft import PeftModel
from transformers import PrinterCallback, ProgressCallback, Trainer

from ladder.models.checkpoint import Rung, ledger, rung_name, save_rung
from ladder.models.oom import ran_out
from ladder.models.tied_embeddings import merged
from ladder.pipeline.disk import check_space, size
from ladder.pipeline.launch import cache, rank, world_size
from ladder.pipeline.stage import UserError
from ladder.training.best_checkpoint import Best, LastStep
from ladder.training.callbacks import Bar, Curve, Progress
from ladder.training.checkpointing import Keeper, drop, fingerprint, held, newest, save_seconds
from ladder.training.model_setup import TrainingSetup
from ladder.training.trackers import tracking, without_trackers
from ladder.training.update_checks import check_learned, check_ruined, marks, norm

OURS = ("load_best_model_at_end",)
"""Keys that the ladder reads itself: transformers would tie the best checkpoint to checkpoints by steps."""


@contextmanager
def trainer_arguments(arguments: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """TrainingArguments that are ours to set, around those of params.yaml; no file outlives the training.

    By default bf16 is on, as TRL has it, and gradient_checkpointing off. Files, reports and logging are ours whatever
    params.yaml says: every step is logged, because the curve, the ledger and the checkpoints are made of what is.
    On several processes each takes its share of the accumulated batches, so that a step learns from the same rows as
    on one. Errors: UserError when the processes cannot share them.
    """
    check_launch()
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        yield {
            "bf16": not arguments.get("fp16"),
            "gradient_checkpointing": False,
            **{name: value for name, value in shared(arguments, world_size()).items() if name not in OURS},
            "output_dir": folder,
            **tracking(arguments),
            "save_strategy": "no",
            "logging_strategy": "steps",
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "use_cpu": not torch.cuda.is_available(),
            "dataloader_pin_memory": torch.cuda.is_available() and arguments.get("dataloader_pin_memory", True),
            "remove_unused_columns": False,
        }


def check_launch() -> None:
    """Refuse several visible GPUs without a launcher, and DeepSpeed; with one, take the GPU of this rank."""
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise UserError(
            "LADDER_LAUNCH: DeepSpeed reads weights in parts, and a rung is read whole; use launch/fsdp2.yaml"
        )
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible and nothing says how to use them: set LADDER_GPUS=0,1,... "
            'to give each stage one, or LADDER_LAUNCH="accelerate launch --config_file launch/ddp.yaml" to use all'
        )
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def shared(arguments: dict[str, Any], processes: int) -> dict[str, Any]:
    """Trainer's arguments for each of so many processes: accumulation (and steps_per_generation) divided by them."""
    names = ("gradient_accumulation_steps", "steps_per_generation")
    counts = {"gradient_accumulation_steps": 1, **{name: arguments[name] for name in names if arguments.get(name)}}
    if processes == 1:
        return arguments
    for name, count in counts.items():
        if count % processes:
            rows = arguments.get("per_device_train_batch_size", 8) * counts["gradient_accumulation_steps"]
            raise UserError(
                f"trainer.{name}: {count} is not shared evenly by {processes} processes{_hint(rows, processes)}"
            )
    return {**arguments, **{name: count // processes for name, count in counts.items()}}


def _hint(rows: int, processes: int) -> str:
    if rows % processes:
        return f", nor is the batch of {rows} rows"
    most = rows // processes
    return (
        f"; per_device_train_batch_size: {most} with gradient_accumulation_steps: {processes} "
        f"is the same batch of {rows} rows"
    )


def fit_and_save(
    trainer: Trainer,
    climbed: TrainingSetup,
    *,
    rung: str,
    method: str,
    settings: dict[str, Any],
    parents: dict[str, Rung],
    output: Path,
    metrics: Path,
    curve: Path,
    measured: dict[str, float],
    endings: dict[str, str],
    resume_every: int = 1,
) -> None:
    """Train, save the rung, and write its ledger: what it cost and how it ended.

    A complete rung is saved in bfloat16, though its weights may have been trained in float32; an adapter as trained.
    `endings` names, for each metric, what the trainer logs of it. A killed training is resumed from its last
    checkpoint; a trainer that keeps rollouts over several steps can only be resumed at a multiple of `resume_every`.
    What decides the result must be in `settings`, `parents` or the trainer's train_dataset.
    """
    check_rows(trainer)
    settings = without_trackers(settings)
    watch = Curve(curve)
    trainable = climbed.trainable_parameters
    sharded = trainer.accelerator.distributed_type == DistributedType.FSDP
    skeleton = hollow(trainer.model) if sharded else None
    recipe = {
        "rung": rung,
        "method": method,
        "settings": settings,
        "parents": {name: parent.identity for name, parent in parents.items()},
        "base": climbed.base and climbed.base.identity,
    }
    if trainer.eval_dataset is not None:
        recipe["held_out"] = fingerprint(trainer.eval_dataset)
    folder = cache() / f"{rung.replace('/', '-')}-{fingerprint(trainer.train_dataset, **recipe)}"
    whole = climbed.base is None
    with held(folder) if rank() == 0 else nullcontext():
        best = _best(trainer, settings, folder, sharded)
        before = None if sharded else marks(trainer.model, saved_in_bfloat16=whole)
        norm_before = None if sharded else norm(trainer.model)
        _train(trainer, watch, folder, output, resume_every, best)
        try:
            idle = check_learned(watch.points, before, before and marks(trainer.model, saved_in_bfloat16=whole))
            model = trained(trainer, skeleton)
            if rank() == 0:
                validated = best.restore(model) if best else watch.validation()
                check_ruined(
                    [] if best and best.greater else watch.points,  # a metric to be raised decides by itself
                    norm_before,
                    None if sharded else norm(model),
                    adapter=isinstance(model, PeftModel),
                    vocabulary=climbed.start.model.config.get_text_config().vocab_size,
                    loss=validated["validation_loss"] if best else None,
                )
        except UserError:
            drop(folder)  # else the next run would go on from the end of this one
            raise
        if rank() == 0:
            if isinstance(model, PeftModel) and climbed.base is None:
                model = merged(model)
            if climbed.base is None:
                model = model.to(torch.bfloat16)
            made = save_rung(
                output,
                model,
                climbed.start.tokenizer,
                rung=rung,
                method=method,
                parents=parents,
                base=climbed.base,
                quantization=climbed.quantization,
                trainable_parameters=trainable,
                settings=settings,
            )
            ends = {metric: watch.ending(name) for metric, name in endings.items()}
            ledger(
                metrics,
                made,
                watch.seconds,
                {**ends, **measured, **validated, **idle, **watch.rate(), "memory_gb": memory_gb()},
            )
            drop(folder)
        trainer.accelerator.wait_for_everyone()
    trainer.accelerator.end_training()


def _best(trainer: Trainer, settings: dict[str, Any], folder: Path, sharded: bool) -> Best | None:
    """The keeper of the best checkpoint, where params.yaml asks for one."""
    given = settings.get("trainer") or {}
    if not given.get("load_best_model_at_end"):
        return None
    if sharded:
        raise UserError("trainer.load_best_model_at_end: FSDP shards the weights; launch with launch/ddp.yaml")
    metric = given.get("metric_for_best_model") or "loss"
    greater = given.get("greater_is_better")
    return Best(trainer, folder, metric, not metric.endswith("loss") if greater is None else greater)


def _train(
    trainer: Trainer, watch: Curve, folder: Path, output: Path, resume_every: int, best: Best | None = None
) -> None:
    trainer.args.output_dir = str(folder)
    trainer.args.run_name = trainer.args.run_name or rung_name(output)
    trainer.add_callback(watch)
    trainer.add_callback(Progress())
    trainer.add_callback(Keeper(trainer, folder, every=resume_every, seconds=save_seconds()))
    if trainer.eval_dataset is not None:
        trainer.add_callback(LastStep)
    if best:
        trainer.add_callback(best)
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    if not trainer.args.disable_tqdm:
        trainer.add_callback(Bar)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if rank() == 0:
        checkpoint, rung = sizes(trainer.model)
        kept = size(folder)  # of the run that this one goes on from; it is written over
        check_space(folder, (3 if best else 2) * checkpoint - kept, "the training's last two checkpoints")
        check_space(output, rung, "the rung")
    found = [str(newest(folder) or "") if rank() == 0 else ""]
    broadcast_object_list(found)
    try:
        trainer.train(resume_from_checkpoint=found[0] or None)
    except torch.OutOfMemoryError:
        raise UserError(f"step {trainer.state.global_step + 1}: {out_of_memory(trainer)}") from None


def check_rows(trainer: Trainer) -> None:
    """Refuse a dataset that does not fill one step."""
    arguments: Any = trainer.args
    dataset: Any = trainer.train_dataset
    rows, processes = len(dataset), arguments.world_size
    batch, steps = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps * processes
    needed, told = batch * steps, f"{batch} rows, {steps} times accumulated"
    if hasattr(arguments, "num_generations"):
        needed = arguments.generation_batch_size // arguments.num_generations
        told = f"{arguments.generation_batch_size} completions, {arguments.num_generations} a prompt"
    if rows < needed:
        raise UserError(f"{rows} rows to train on, and one step takes {needed} ({told}); lower trainer's batch")


def sizes(model: Any) -> tuple[int, int]:
    """Bytes of a checkpoint (weights that are saved, and AdamW's two moments in float32) and of the rung in bf16."""
    weights = list(model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    saved = learned if isinstance(model, PeftModel) else weights
    checkpoint = sum(weight.nbytes for weight in saved) + 8 * sum(weight.numel() for weight in learned)
    return checkpoint, 2 * sum(weight.numel() for weight in saved)


def hollow(model: Any) -> Any:
    """A copy of a model without its weights, to be filled when what several processes hold is gathered."""
    empty: dict[int, Any] = {
        id(weight): torch.nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=weight.requires_grad)
        for weight in model.parameters()
    }
    return copy.deepcopy(model, empty)


def trained(trainer: Trainer, skeleton: Any) -> Any:
    """The model with its trained weights: as it is, or its `skeleton` filled on rank zero from all ranks' shards."""
    if skeleton is None:
        return trainer.accelerator.unwrap_model(trainer.model)
    state = trainer.accelerator.get_state_dict(trainer.model)  # every rank takes part in it
    return fill(skeleton, state) if rank() == 0 else skeleton


def fill(skeleton: Any, state: dict[str, torch.Tensor]) -> Any:
    """Put gathered weights into a hollow model. Errors: RuntimeError naming a weight that was not gathered."""
    skeleton.load_state_dict(state, strict=False, assign=True)
    bare: Any = skeleton.get_base_model() if isinstance(skeleton, PeftModel) else skeleton
    bare.tie_weights()
    for name, weight in skeleton.named_parameters():
        if weight.is_meta:
            raise RuntimeError(f"{name}: not in the gathered state")
    return skeleton


def out_of_memory(trainer: Trainer) -> str:
    """Who holds the memory that is full, and what to change in params.yaml, for PPO its minibatches too."""
    arguments: Any = trainer.args
    batch, steps = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps * arguments.world_size
    told = ran_out(arguments.device)
    part = next((divisor for divisor in range(2, batch + 1) if batch % divisor == 0), None)
    if part:
        less = "half" if part == 2 else f"1/{part} of"
        raised = f"gradient_accumulation_steps from {steps} to {steps * part}"
        if rollout := getattr(trainer, "batches_per_rollout", None):
            raised += f" and minibatches from {rollout} to {rollout * part}"
        return (
            f"{told}: lower trainer.per_device_train_batch_size from {batch} to {batch // part} and raise {raised}: "
            f"the same batch in {less} the memory"
        )
    if not arguments.gradient_checkpointing:
        return f"{told} with one row at a time: set trainer.gradient_checkpointing: true (slower, far less memory)"
    return f"{told} with one row at a time: lower trainer.max_length, or train fewer weights (lora: {{r: 16}})"


def memory_gb() -> float:
    """The most memory in use, in GB: of this rank's GPU while it trained, else of the process."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)  # Linux counts in KiB
