"""Training loop shared by all training stages: trainer arguments, training, saving the rung and its metrics.

A killed training resumes (ladder/training/checkpointing.py). With a launcher (ladder/pipeline/launch.py) every process
runs the stage, and only rank zero writes. The global batch size stays that of params.yaml: the ranks share its gradient
accumulation steps.
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
from ladder.training.learned_positions import select_on_cpu
from ladder.training.micro_batches import MicroBatches
from ladder.training.model_setup import TrainingSetup
from ladder.training.trackers import tracking, without_trackers
from ladder.training.update_checks import check_learned, check_ruined, marks, norm

OURS = ("load_best_model_at_end",)
"""Keys handled by the ladder itself. transformers would require checkpoints by steps for the best checkpoint."""


@contextmanager
def trainer_arguments(arguments: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> Iterator[dict[str, Any]]:
    """Complete the TrainingArguments of params.yaml; temporary files are deleted when the context ends.

    Defaults: bf16 on, as in TRL, except for a base whose `dtype` is float32; gradient_checkpointing off. Settings for
    files, reports and logging override params.yaml. Every step is logged, because the curve, the metrics and the
    checkpoints depend on the log. Processes share the gradient accumulation steps, so a step trains on the same rows as
    with one process.

    Errors: UserError when the steps cannot be divided evenly among the processes, and from `check_launch`.
    """
    check_launch()
    select_on_cpu()
    if not arguments.get("use_vllm"):  # whose memory pool does not work with it
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        yield {
            "bf16": dtype == torch.bfloat16 and not arguments.get("fp16"),
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
    """Refuse DeepSpeed, and several visible GPUs without a launcher. With a launcher, select this rank's GPU.

    Errors: UserError with the variable to set.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise UserError(
            "LADDER_LAUNCH: DeepSpeed reads weights in parts, but a rung is read as a whole. Use launch/fsdp2.yaml."
        )
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise UserError(
            f"{torch.cuda.device_count()} GPUs are visible, but their use is not configured. Set LADDER_GPUS=0,1,... "
            'to give each stage one GPU, or LADDER_LAUNCH="accelerate launch --config_file launch/ddp.yaml" to use all.'
        )
    if torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))


def shared(arguments: dict[str, Any], processes: int) -> dict[str, Any]:
    """Per-process arguments: gradient_accumulation_steps and steps_per_generation divided by `processes`.

    Errors: UserError when a value is not divisible.
    """
    names = ("gradient_accumulation_steps", "steps_per_generation")
    counts = {"gradient_accumulation_steps": 1, **{name: arguments[name] for name in names if arguments.get(name)}}
    if processes == 1:
        return arguments
    for name, count in counts.items():
        if count % processes:
            rows = arguments.get("per_device_train_batch_size", 8) * counts["gradient_accumulation_steps"]
            raise UserError(
                f"trainer.{name}: expected a multiple of the {processes} processes, got {count}{_hint(rows, processes)}"
            )
    return {**arguments, **{name: count // processes for name, count in counts.items()}}


def _hint(rows: int, processes: int) -> str:
    if rows % processes:
        return f"; the batch of {rows} rows is no multiple either"
    most = rows // processes
    return (
        f". per_device_train_batch_size: {most} with gradient_accumulation_steps: {processes} "
        f"is the same batch of {rows} rows."
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
    """Train, save the rung, and write its metrics: measurements, final values and cost.

    A complete rung is saved in the dtype of its base, even if its weights were trained in float32. An adapter keeps its
    dtype.
    `endings` maps metric names to names in the trainer's log. A killed training resumes from its last checkpoint. A
    trainer that uses a rollout for several steps can only resume at a multiple of `resume_every`. Everything that
    decides the result must be in `settings`, `parents` or the trainer's train_dataset.

    Errors: UserError when the training changed nothing or ruined the model (ladder/training/update_checks.py), and for
    too few rows, memory or disk space.
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
    saved = climbed.dtype if climbed.base is None else None
    with held(folder) if rank() == 0 else nullcontext():
        best = _best(trainer, settings, folder, sharded)
        before = None if sharded else marks(trainer.model, saved)
        norm_before = None if sharded else norm(trainer.model)
        _train(trainer, watch, folder, output, resume_every, best)
        try:
            idle = check_learned(watch.points, before, before and marks(trainer.model, saved))
            model = trained(trainer, skeleton)
            if rank() == 0:
                validated = best.restore(model) if best else watch.validation()
                check_ruined(
                    [] if best and best.greater else watch.points,  # a metric to maximize decides, not the loss
                    norm_before,
                    None if sharded else norm(model),
                    adapter=isinstance(model, PeftModel),
                    vocabulary=climbed.start.model.config.get_text_config().vocab_size,
                    loss=validated["validation_loss"] if best else None,
                )
        except UserError:
            drop(folder)  # otherwise the next run would resume from the end of this one
            raise
        if rank() == 0:
            if isinstance(model, PeftModel) and climbed.base is None:
                model = merged(model)
            if climbed.base is None:
                model = model.to(climbed.dtype)
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
    """Best-checkpoint callback, if params.yaml sets load_best_model_at_end."""
    given = settings.get("trainer") or {}
    if not given.get("load_best_model_at_end"):
        return None
    if sharded:
        raise UserError("trainer.load_best_model_at_end: FSDP shards the weights. Launch with launch/ddp.yaml.")
    metric = given.get("metric_for_best_model") or "loss"
    greater = given.get("greater_is_better")
    return Best(trainer, folder, metric, not metric.endswith("loss") if greater is None else greater)


def _train(
    trainer: Trainer, watch: Curve, folder: Path, output: Path, resume_every: int, best: Best | None = None
) -> None:
    trainer.args.output_dir = str(folder)
    trainer.args.run_name = trainer.args.run_name or rung_name(output)
    trainer.add_callback(watch)
    # TRL writes a model card into every checkpoint. It is not used there, and in an ASCII locale it fails.
    trainer.create_model_card = lambda *_, **__: None  # type: ignore[method-assign]
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
        kept = size(folder)  # of the run to be resumed, which this one overwrites
        check_space(folder, (3 if best else 2) * checkpoint - kept, "the training's last two checkpoints")
        check_space(output, rung, "the rung")
    found = [str(newest(folder) or "") if rank() == 0 else ""]
    broadcast_object_list(found)
    if isinstance(trainer, MicroBatches):
        trainer.choose(folder)
    try:
        trainer.train(resume_from_checkpoint=found[0] or None)
    except torch.OutOfMemoryError:
        raise UserError(f"step {trainer.state.global_step + 1}: {out_of_memory(trainer)}") from None


def check_rows(trainer: Trainer) -> None:
    """Refuse a dataset with fewer rows than one step takes. Errors: UserError."""
    arguments: Any = trainer.args
    dataset: Any = trainer.train_dataset
    rows, processes = len(dataset), arguments.world_size
    batch, steps = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps * processes
    needed, sizes_of_step = batch * steps, f"{batch} rows, {steps} accumulation steps"
    if hasattr(arguments, "num_generations"):
        needed = arguments.generation_batch_size // arguments.num_generations
        sizes_of_step = f"{arguments.generation_batch_size} completions, {arguments.num_generations} per prompt"
    if rows < needed:
        raise UserError(
            f"expected at least {needed} rows for one step ({sizes_of_step}), got {rows}. Lower trainer's batch size."
        )


def sizes(model: Any) -> tuple[int, int]:
    """(bytes of a checkpoint, bytes of the rung in bf16).

    A checkpoint holds the saved weights and AdamW's two moments in float32.
    """
    weights = list(model.parameters())
    learned = [weight for weight in weights if weight.requires_grad]
    saved = learned if isinstance(model, PeftModel) else weights
    checkpoint = sum(weight.nbytes for weight in saved) + 8 * sum(weight.numel() for weight in learned)
    return checkpoint, 2 * sum(weight.numel() for weight in saved)


def hollow(model: Any) -> Any:
    """Copy of a model with its parameters on the meta device, to be filled with gathered weights."""
    empty: dict[int, Any] = {
        id(weight): torch.nn.Parameter(torch.empty_like(weight, device="meta"), requires_grad=weight.requires_grad)
        for weight in model.parameters()
    }
    return copy.deepcopy(model, empty)


def trained(trainer: Trainer, skeleton: Any) -> Any:
    """The trained model: unwrapped, or `skeleton` filled on rank zero with weights gathered from all ranks."""
    if skeleton is None:
        return trainer.accelerator.unwrap_model(trainer.model)
    state = trainer.accelerator.get_state_dict(trainer.model)  # collective: every rank must call it
    return fill(skeleton, state) if rank() == 0 else skeleton


def fill(skeleton: Any, state: dict[str, torch.Tensor]) -> Any:
    """Load gathered weights into a model on the meta device. Errors: RuntimeError naming a missing weight."""
    skeleton.load_state_dict(state, strict=False, assign=True)
    bare: Any = skeleton.get_base_model() if isinstance(skeleton, PeftModel) else skeleton
    bare.tie_weights()
    for name, weight in skeleton.named_parameters():
        if weight.is_meta:
            raise RuntimeError(f"{name}: not in the gathered state")
    return skeleton


def out_of_memory(trainer: Trainer) -> str:
    """Error message for out of memory: the processes that hold memory, and which params.yaml key to change."""
    if isinstance(trainer, MicroBatches):
        return trainer.out_of_memory()
    arguments: Any = trainer.args
    batch, steps = arguments.per_device_train_batch_size, arguments.gradient_accumulation_steps * arguments.world_size
    cause = ran_out(arguments.device)
    part = next((divisor for divisor in range(2, batch + 1) if batch % divisor == 0), None)
    if part:
        less = "half" if part == 2 else f"1/{part} of"
        raised = f"gradient_accumulation_steps from {steps} to {steps * part}"
        if rollout := getattr(trainer, "batches_per_rollout", None):
            raised += f" and minibatches from {rollout} to {rollout * part}"
        return (
            f"{cause}. Lower trainer.per_device_train_batch_size from {batch} to {batch // part} and raise {raised}: "
            f"the same batch in {less} the memory."
        )
    if not arguments.gradient_checkpointing:
        return f"{cause} with one row at a time. Set trainer.gradient_checkpointing: true (slower, far less memory)."
    return f"{cause} with one row at a time. Lower trainer.max_length, or train fewer weights (lora: {{r: 16}})."


def memory_gb() -> float:
    """Peak memory in GB: of this rank's GPU during training, or of the process without a GPU."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 1e9, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)  # KiB on Linux
