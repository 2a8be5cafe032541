"""Keys of other libraries that need another setting, or a feature of the machine, to have an effect."""

import importlib.util
from collections.abc import Callable, Iterable
from typing import Any

import torch
from transformers import TrainingArguments

from ladder.training.trainer_keys import Values, defaults

Need = tuple[Iterable[str], Callable[[Values], bool], str]


def _one_of(name: str, values: Iterable[Any], plain: Any) -> Callable[[Values], bool]:
    def holds(given: Values) -> bool:
        chosen = given.get(name, plain)
        return bool(set(chosen if isinstance(chosen, list) else [chosen]) & set(values))

    return holds


def _embeddings(given: Values) -> bool:
    targets = given.get("target_modules") or []
    named = [*(given.get("modules_to_save") or []), *([targets] if isinstance(targets, str) else targets)]
    return any(layer in one for one in named for layer in ("embed_tokens", "lm_head"))


def _set(name: str) -> Callable[[Values], bool]:
    return lambda given: bool(given.get(name))


ADAM = (
    "adamw_torch", "adamw_torch_fused", "adamw_anyprecision", "adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit",
    "paged_adamw_8bit", "ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "adamw_torch_4bit",
    "adamw_torch_8bit", "stable_adamw", "schedule_free_adamw", "schedule_free_radam", "grokadamw",
)  # fmt: skip
LION = ("lion_8bit", "lion_32bit", "paged_lion_32bit", "paged_lion_8bit")
READ_ARGS = ("sgd", "adagrad", "rmsprop", "adamw_anyprecision", "ademamix", "ademamix_8bit", "paged_ademamix_32bit",
             "paged_ademamix_8bit", "stable_adamw", "schedule_free_adamw", "schedule_free_radam", "schedule_free_sgd",
             "grokadamw", "adamw_torch_4bit", "adamw_torch_8bit")  # fmt: skip
ARGS = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adagrad": ("lr_decay", "weight_decay", "eps"),
    "rmsprop": ("momentum", "alpha", "eps", "weight_decay", "centered"),
    **dict.fromkeys(
        ("ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit"),
        ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3"),
    ),
}
"""Keys of optim_args by optimizer. transformers ignores all others."""
SERVER = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port")
COLOCATE = ("vllm_gpu_memory_utilization", "vllm_max_model_length", "vllm_tensor_parallel_size",
            "vllm_enable_sleep_mode", "vllm_model_impl")  # fmt: skip
VLLM = ("vllm_mode", "vllm_importance_sampling_correction", "vllm_importance_sampling_mode",
        "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min")  # fmt: skip
CLIPPED = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")

TRAINER_NEEDS: tuple[Need, ...] = (
    (("num_train_epochs",), lambda given: given.get("max_steps", -1) < 0, "max_steps: -1 (max_steps overrides it)"),
    (("warmup_steps",), lambda given: given.get("lr_scheduler_type") != "constant",
     "lr_scheduler_type: constant_with_warmup (constant has no warmup)"),
    (("adam_beta1", "adam_beta2"), _one_of("optim", (*ADAM, *LION), "adamw_torch_fused"), "optim: Adam or Lion"),
    (("adam_epsilon",), _one_of("optim", ADAM, "adamw_torch_fused"), "optim: an Adam optimizer"),
    (("optim_args",), _one_of("optim", READ_ARGS, "adamw_torch_fused"), f"optim: one of {', '.join(READ_ARGS)}"),
    (("gradient_checkpointing_kwargs",), _set("gradient_checkpointing"), "gradient_checkpointing: true"),
    (("torch_compile_backend", "torch_compile_mode"), _set("torch_compile"), "torch_compile: true"),
    (("liger_kernel_config",), _set("use_liger_kernel"), "use_liger_kernel: true"),
    (("dataloader_persistent_workers", "dataloader_prefetch_factor", "dataloader_multiprocessing_context",
      "dataloader_in_order"), _set("dataloader_num_workers"), "dataloader_num_workers: 1 or more"),
    (("run_name", "project"), _set("report_to"), "report_to"),
    (("eval_steps",), _one_of("eval_strategy", ("steps",), "no"), "eval_strategy: steps"),
    (("eval_delay",), _one_of("eval_strategy", ("steps", "epoch"), "no"),
     "eval_strategy: steps or epoch"),
)  # fmt: skip
NEEDS: dict[str, tuple[Need, ...]] = {
    "SFTConfig": (
        (("packing_strategy",), _set("packing"), "packing: true"),
        (("label_smoothing_factor",), _one_of("loss_type", ("nll",), "nll"), "loss_type: nll"),
        (("pad_to_multiple_of",), lambda given: not given.get("packing"), "packing: false"),
    ),
    "DPOConfig": (
        (("label_smoothing",),
         _one_of("loss_type", ("robust", "exo_pair", "aot", "aot_unpaired"), "sigmoid"),
         "loss_type: robust, exo_pair, aot or aot_unpaired"),
        (("discopop_tau",), _one_of("loss_type", ("discopop",), "sigmoid"), "loss_type: discopop"),
        (("f_alpha_divergence_coef",), _one_of("f_divergence_type", ("alpha_divergence",), "reverse_kl"),
         "f_divergence_type: alpha_divergence"),
    ),
    "GRPOConfig": (
        ((*SERVER, *COLOCATE, *VLLM), _set("use_vllm"), "engine: vllm"),
        (SERVER, _one_of("vllm_mode", ("server",), "colocate"), "vllm_mode: server"),
        (COLOCATE, _one_of("vllm_mode", ("colocate",), "colocate"), "vllm_mode: colocate"),
        (("delta", "epsilon"), _one_of("loss_type", CLIPPED, "dapo"), f"loss_type: one of {', '.join(CLIPPED)}"),
        (("epsilon_high",), _one_of("loss_type", (*CLIPPED, "cispo"), "dapo"),
         f"loss_type: one of {', '.join((*CLIPPED, 'cispo'))}"),
        (("sapo_temperature_neg", "sapo_temperature_pos"), _one_of("loss_type", ("sapo",), "dapo"), "loss_type: sapo"),
        (("vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg", "vespo_lambda_neg"),
         _one_of("loss_type", ("vespo",), "dapo"), "loss_type: vespo"),
        (("use_bias_correction_kl",), _set("beta"), "beta above 0"),
    ),
    "RLOOConfig": (
        ((*SERVER, *COLOCATE, "vllm_mode"), _set("use_vllm"), "engine: vllm"),
        (SERVER, _one_of("vllm_mode", ("server",), "colocate"), "vllm_mode: server"),
        (COLOCATE, _one_of("vllm_mode", ("colocate",), "colocate"), "vllm_mode: colocate"),
    ),
    "LoraConfig": (
        (("layers_pattern",), _set("layers_to_transform"), "layers_to_transform"),
        (("ensure_weight_tying",), _embeddings, "embed_tokens or lm_head in modules_to_save or target_modules"),
    ),
    "BitsAndBytesConfig": (
        (("llm_int8_threshold",), _set("load_in_8bit"), "load_in_8bit: true"),
        (("bnb_4bit_compute_dtype", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant"),
         _set("load_in_4bit"), "load_in_4bit: true"),
    ),
}  # fmt: skip
"""Keys that have an effect only with another setting: (keys, condition, description of the setting)."""


def unmet(owner: type, values: Values) -> str | None:
    """Error message for the first key whose required setting is missing; None if there is none."""
    plain = defaults(owner)
    common = TRAINER_NEEDS if issubclass(owner, TrainingArguments) else ()
    for names, holds, wanted in (*common, *NEEDS.get(owner.__name__, ())):
        for name in names:
            changed = name in values and (name == "num_train_epochs" or values[name] != plain[name])
            if changed and not holds(values):
                return f"{name}: no effect; expected it only with {wanted}, got {values[name]!r}"
    return None


def unread(values: Values) -> str | None:
    """Error message for a name in optim_args that the optimizer does not read; None if there is none."""
    known = ARGS.get(values.get("optim", ""), ())
    for part in (values.get("optim_args") or "").replace(" ", "").split(",") if known else ():
        if part.count("=") != 1 or part.split("=")[0] not in known:
            return (
                f"optim_args: expected {', '.join(f'{name}=…' for name in known)} for {values['optim']}, got {part!r}"
            )
    return None


def absent(values: Values) -> str | None:
    """Error message for a feature that this machine lacks; None if there is none."""
    cuda = torch.cuda.is_available()
    if values.get("use_liger_kernel") and importlib.util.find_spec("liger_kernel") is None:
        return "use_liger_kernel: liger-kernel is not installed. `make extra-gpu` installs it."
    for name in ("use_liger_kernel", "activation_offloading", "tf32", "fp16"):
        if values.get(name) and not cuda:
            return f"{name}: needs a CUDA GPU, but none is visible. Omit the key."
    return None
