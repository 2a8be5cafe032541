"""Ranges and choices of keys passed to other libraries, and replacements for removed keys."""

import math
from collections.abc import Iterable
from typing import Any

from transformers.trainer_utils import SchedulerType
from transformers.training_args import OptimizerNames

from ladder.pipeline.names import did_you_mean

INFINITE = math.inf
Range = tuple[float, float, bool, bool]


def _at_least(least: float, most: float = INFINITE) -> Range:
    return least, most, True, True


def _above(least: float, most: float = INFINITE, *, most_included: bool = True) -> Range:
    return least, most, False, most_included


FRACTION: Range = (0, 1, True, False)
RANGES: dict[str, Range] = {
    **dict.fromkeys(
        (
            "per_device_train_batch_size",
            "per_device_eval_batch_size",
            "gradient_accumulation_steps",
            "torch_empty_cache_steps",
            "dataloader_prefetch_factor",
            "max_length",
            "max_completion_length",
            "num_iterations",
            "steps_per_generation",
            "generation_batch_size",
            "pad_to_multiple_of",
            "vllm_tensor_parallel_size",
            "vllm_max_model_length",
            "r",
        ),
        _at_least(1),
    ),
    **dict.fromkeys(("vllm_server_port", "vllm_group_port"), _at_least(1, 65535)),
    **dict.fromkeys(
        (
            "num_train_epochs",
            "learning_rate",
            "adam_epsilon",
            "eval_steps",
            "temperature",
            "discopop_tau",
            "epsilon",
            "epsilon_high",
            "delta",
            "sapo_temperature_neg",
            "sapo_temperature_pos",
            "vespo_k_pos",
            "vespo_lambda_pos",
            "vespo_k_neg",
            "vespo_lambda_neg",
            "vllm_server_timeout",
            "vllm_importance_sampling_clip_max",
            "vllm_importance_sampling_clip_min",
            "off_policy_mask_threshold",
            "lora_alpha",
            "neftune_noise_alpha",
        ),
        _above(0),
    ),
    **dict.fromkeys(
        (
            "warmup_steps",
            "weight_decay",
            "max_grad_norm",
            "eval_delay",
            "dataloader_num_workers",
            "desirable_weight",
            "undesirable_weight",
            "center_rewards_coefficient",
            "router_aux_loss_coef",
            "beta",
            "llm_int8_threshold",
        ),
        _at_least(0),
    ),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "label_smoothing_factor", "lora_dropout"), FRACTION),
    **dict.fromkeys(("top_entropy_quantile", "vllm_gpu_memory_utilization"), _above(0, 1)),
    **dict.fromkeys(("seed", "data_seed"), _at_least(0, 2**32 - 1)),
    "label_smoothing": (0, 0.5, True, False),
    "ld_alpha": _at_least(0, 1),
    "num_generations": _at_least(2),
}
"""Minimum and maximum value, and whether each of them is included."""

ABOVE_ZERO = ("DPOConfig", "KTOConfig")
"""Configuration classes that need `beta` above 0, because 0 would learn nothing."""

DPO_LOSSES = (
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
)
IMPORTANCE = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
CHECKPOINTING = ("use_reentrant", "preserve_rng_state", "determinism_check", "debug", "early_stop", "selective")
"""Arguments of torch's checkpoint, and TRL's `selective`, which only SFT supports."""
SUPPORTED_OPTIMIZERS = tuple(
    name.value
    for name in OptimizerNames
    if not name.value.startswith(("galore", "apollo", "lomo", "adalomo"))
    and not name.value.endswith(("xla", "npu_fused"))
)
CHOICES: dict[str, dict[str, tuple[Any, ...]]] = {
    "": {
        "lr_scheduler_type": tuple(name.value for name in SchedulerType),
        "optim": SUPPORTED_OPTIMIZERS,
        "eval_strategy": ("no", "steps", "epoch"),
        "train_sampling_strategy": ("random", "sequential", "group_by_length"),
        "log_level": ("debug", "info", "warning", "error", "critical", "passive"),
        "log_level_replica": ("debug", "info", "warning", "error", "critical", "passive"),
        "torch_compile_backend": (None, "inductor", "eager", "aot_eager", "cudagraphs"),
        "torch_compile_mode": (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
        "dataloader_multiprocessing_context": (None, "fork", "spawn", "forkserver"),
    },
    "SFTConfig": {"loss_type": ("nll", "dft", "chunked_nll"), "packing_strategy": ("bfd",)},
    "DPOConfig": {
        "loss_type": DPO_LOSSES,
        "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
        "train_sampling_strategy": ("random", "sequential"),
    },
    "KTOConfig": {"loss_type": ("kto", "apo_zero_unpaired"), "train_sampling_strategy": ("sequential",)},
    "RewardConfig": {"train_sampling_strategy": ("random", "sequential")},
    "pairs": {"train_sampling_strategy": ("random", "sequential")},
    "GRPOConfig": {
        "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
        "scale_rewards": ("group", "batch", "none", True, False),
        "importance_sampling_level": ("token", "sequence"),
        "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
        "vllm_mode": ("colocate", "server"),
        "vllm_importance_sampling_mode": IMPORTANCE,
    },
    "RLOOConfig": {"vllm_mode": ("colocate", "server")},
    "BitsAndBytesConfig": {
        "bnb_4bit_quant_type": ("nf4", "fp4"),
        "bnb_4bit_compute_dtype": ("float16", "bfloat16", "float32"),
    },
    "LoraConfig": {
        "init_lora_weights": (True, False, "gaussian", "orthogonal", "olora", "pissa", "pissa_niter_N"),
        "bias": ("none", "all", "lora_only"),
    },
}
"""Allowed values of a key by configuration class; "" applies to all trainers."""

SUCCESSORS = {
    "warmup_ratio": "warmup_steps (below 1 it is a share of the steps)",
    "evaluation_strategy": "eval_strategy",
    "max_seq_length": "max_length",
    "max_prompt_length": "max_length where the method has it; a prompt is never cut",
    "max_target_length": "max_length",
    "max_new_tokens": "max_completion_length",
    "dataset_batch_size": "omit it; all rows are read at once",
    "group_by_length": "train_sampling_strategy: group_by_length",
    "use_mps_device": "omit it; the device is detected",
    "no_cuda": "CUDA_VISIBLE_DEVICES=''",
    "fp16_backend": "fp16",
    "half_precision_backend": "bf16 or fp16",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "batch_size": "per_device_train_batch_size",
    "gradient_accumulation": "gradient_accumulation_steps",
    "lr": "learning_rate",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "logging_dir": "TENSORBOARD_LOGGING_DIR",
    "tpu_num_cores": "omit it; TPUs are not supported",
    "tokenizer": "`parent`; the tokenizer is the parent's",
    "use_liger": "use_liger_kernel",
    "adafactor": "optim: adafactor",
    "save_safetensors": "omit it; weights are always saved as safetensors",
    "torchdynamo": "torch_compile_backend",
    "jit_mode_eval": "torch_compile",
    "use_ipex": "nothing",
    "past_index": "nothing",
    "overwrite_output_dir": "omit it; a rung is replaced when it is made again",
    "include_inputs_for_metrics": "omit it; validation reports the loss",
    "ray_scope": "nothing",
    "mp_parameters": "LADDER_LAUNCH",
    "fsdp_min_num_params": "LADDER_LAUNCH",
    "fsdp_transformer_layer_cls_to_wrap": "LADDER_LAUNCH",
    "generate_during_eval": "the stage heldout",
    "is_encoder_decoder": "omit it; rungs are decoder-only models",
    "label_pad_token_id": "omit it; it is -100",
    "padding_value": "omit it; the tokenizer's pad token is used",
    "model_adapter_name": "`lora`",
    "ref_adapter_name": "the stage reference",
    "force_use_ref_model": "the stage reference",
    "reference_free": "the stage simpo or orpo",
    "rpo_alpha": "loss_type: [sigmoid, sft] with loss_weights",
    "use_weighted_loss": "use_weighting",
    "max_steps_per_epoch": "max_steps",
    "simpo_gamma": "simpo.<name>.gamma",
    "cpo_alpha": "the stage simpo, which has no likelihood term",
    "num_of_sequences": "generation_batch_size",
    "neftune_alpha": "neftune_noise_alpha",
    "rank": "r",
    "lora_r": "r",
    "alpha": "lora_alpha",
    "dropout": "lora_dropout",
    "lora_target": "target_modules",
    "bnb_4bit_double_quant": "bnb_4bit_use_double_quant",
    "compute_dtype": "bnb_4bit_compute_dtype",
    "quant_type": "bnb_4bit_quant_type",
}
"""Keys of older versions and of other trainers, with their replacements."""


def unknown(owner: str, name: str, known: Iterable[str]) -> str:
    """Error message for a key that the configuration class does not have."""
    said = f"{name}: no such argument of {owner}"
    if name in SUCCESSORS:
        return f"{said}. Instead: {SUCCESSORS[name]}"
    return f"{said}{did_you_mean(name, known)}"


def outside(owner: str, kind: str, name: str, value: Any) -> str | None:
    """Error message for a value of the right type outside its range or choices; None if it is valid."""
    choices = {**CHOICES[""], **CHOICES.get(owner, {}), **CHOICES.get(kind, {})}.get(name)
    each = value if isinstance(value, list) else [value]
    for one in each:
        plain = "pissa_niter_N" if name == "init_lora_weights" and str(one).startswith("pissa_niter_") else one
        if choices and not any(type(plain) is type(choice) and plain == choice for choice in choices):
            return f"{name}: expected one of {', '.join(map(str, choices))}, got {one!r}"
    if value is None and name in ("num_generations", "max_completion_length"):
        return f"{name}: expected a whole number, got null"
    if name == "gradient_checkpointing_kwargs":
        known = CHECKPOINTING if owner == "SFTConfig" else CHECKPOINTING[:-1]
        if (value is not None and not isinstance(value, dict)) or not set(value or {}) <= set(known):
            return f"{name}: expected a mapping of {', '.join(known)}, got {value!r}"
    if name == "lr_scheduler_kwargs" and (value is not None and not isinstance(value, dict)):
        return f"{name}: expected a mapping, got {value!r}"
    if name == "pad_to_multiple_of" and isinstance(value, str) and value != "auto":
        return f"{name}: expected a whole number, auto or null, got {value!r}"
    for one in _numbers(value):
        if not math.isfinite(one):
            return f"{name}: expected a finite number, got {one}"
    if name == "max_steps" and value != -1 and value < 1:
        return f"max_steps: expected 1 or more, or -1 for num_train_epochs, got {value}"
    if name == "warmup_steps" and value >= 1 and value != int(value):
        return f"warmup_steps: expected a whole number, or a share of the steps below 1, got {value}"
    if name == "eval_steps" and value is not None and value >= 1 and value != int(value):
        return f"eval_steps: expected a whole number, or a share of the steps below 1, got {value}"
    if name not in RANGES or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    least, most, least_in, most_in = RANGES[name]
    if name == "beta" and owner in ABOVE_ZERO:
        least_in = False
    if (value > least or (least_in and value == least)) and (value < most or (most_in and value == most)):
        return None
    lower = f"{least} or more" if least_in else f"more than {least}"
    upper = "" if most == INFINITE else f" and at most {most}" if most_in else f" and less than {most}"
    return f"{name}: expected {lower}{upper}, got {value}"


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for one in value.values() for number in _numbers(one)]
    if isinstance(value, list | tuple):
        return [number for one in value for number in _numbers(one)]
    return [value] if isinstance(value, float) else []
