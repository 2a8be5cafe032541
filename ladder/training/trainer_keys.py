"""Classification of the libraries' configuration keys: those with an effect here, and refused ones with a replacement.

Every field of a configuration class is in exactly one of two tables, `effective` and `refused`. A test checks all
fields, so a field of a new library version fails the test until it is classified. A refused key is accepted only with
the value that the ladder uses anyway (`SAME`, else the library's default). Copied settings without an effect therefore
still work.
"""

import dataclasses
import inspect
from typing import Any

from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainingArguments
from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig

Values = dict[str, Any]
NEVER: tuple[Any, ...] = ()
"""Accept no value: even the library's default differs from the ladder's behavior."""

HUB = "publish a rung with `dvc push`"
CHECKPOINTS = "checkpoints are saved at time intervals: LADDER_SAVE_SECONDS"
LOGGING = "every step is logged to the curve in plots/"
LAUNCHER = "processes are configured by the launcher: LADDER_LAUNCH (launch/*.yaml)"
EVALUATED = "validation reports only the loss: set `validation` and eval_strategy"
TEMPLATE = "set base.chat_template"
TOKENIZER = "the stage base sets the tokenizer's special tokens"
ROWS = "the ladder reads and renders rows: set `data`"
CUT = "rows longer than max_length are left out, never truncated"
WEIGHTS = "the ladder reads weights: set `parent` and `lora`"
REFERENCE = "the reference is the parent; the stage reference computes its log-probabilities"
ENGINE = "answers are sampled by the ladder's decoder, or by vLLM with engine: vllm"
WHOLE = "samples must come from the policy's own distribution: set temperature"
SAMPLES = "answers are saved in the rung's samples file"
LOSS = "this method has its own loss"
SAMPLER = "the order of prompts depends on seed alone"
SYNC = "the reference is the parent during the whole training: set beta"
LIGER = "use the library's own kernels: liger-kernel applies to sft, dpo, kto, grpo and rloo"

COMMON: dict[str, str] = {
    **dict.fromkeys(
        ("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push",
         "hub_revision", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), HUB),
    **dict.fromkeys(
        ("save_strategy", "save_steps", "save_only_model", "save_on_each_node", "save_total_limit",
         "enable_jit_checkpoint", "ignore_data_skip", "restore_callback_states_from_checkpoint"), CHECKPOINTS),
    **dict.fromkeys(
        ("logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"), LOGGING),
    **dict.fromkeys(
        ("fsdp", "fsdp_config", "deepspeed", "local_rank", "ddp_find_unused_parameters", "ddp_bucket_cap_mb",
         "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend", "ddp_timeout", "accelerator_config",
         "parallelism_config"), LAUNCHER),
    **dict.fromkeys(
        ("prediction_loss_only", "eval_accumulation_steps", "eval_do_concat_batches", "eval_use_gather_object",
         "include_for_metrics", "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval", "label_names"), EVALUATED),
    "output_dir": "the rung is written to models/<stage>/<name>",
    "resume_from_checkpoint": "a killed training resumes by itself (LADDER_WORK)",
    "do_train": "a training stage always trains",
    "do_eval": "set `validation` and eval_strategy",
    "do_predict": "use the stages answer and benchmark",
    "include_num_input_tokens_seen": "the curve has num_tokens",
    "skip_memory_metrics": "metrics/ has memory_gb",
    "auto_find_batch_size": "lower per_device_train_batch_size and raise gradient_accumulation_steps",
    "average_tokens_across_devices": "the loss is a mean over the tokens of all processes",
    "use_cpu": "hide the GPUs with CUDA_VISIBLE_DEVICES=''",
    "eval_on_start": "measure the parent with the stages heldout and benchmark",
    "use_cache": "training uses no cache",
    "remove_unused_columns": "the ladder's rows have no unused columns",
    "length_column_name": "lengths are counted in tokens: set train_sampling_strategy alone",
    "debug": "training already stops at a loss that is not finite",
    "optim_target_modules": "optimizers of projected gradients are not supported; use lora",
}  # fmt: skip
TRL: dict[str, str] = {
    "model_init_kwargs": WEIGHTS,
    "trust_remote_code": "code from a model repository never runs",
    "dataset_num_proc": ROWS,
}
OTHER_LOSS = {"label_smoothing_factor": LOSS}
OWN_LOSS = {**OTHER_LOSS, "use_liger_kernel": LIGER, "liger_kernel_config": LIGER}
VALIDATION = (
    "eval_strategy", "eval_steps", "eval_delay", "per_device_eval_batch_size",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
)  # fmt: skip
NO_VALIDATION = dict.fromkeys(VALIDATION, "measure a policy with the stages heldout and benchmark")
PRECOMPUTED = {
    "precompute_ref_log_probs": REFERENCE,
    "precompute_ref_batch_size": REFERENCE,
    "sync_ref_model": REFERENCE,
    "ref_model_mixup_alpha": REFERENCE,
    "ref_model_sync_steps": REFERENCE,
}
ONLINE = {
    **OTHER_LOSS,
    **NO_VALIDATION,
    "num_generations_eval": NO_VALIDATION["eval_strategy"],
    "train_sampling_strategy": "set shuffle_dataset",
    "data_seed": SAMPLER,
    "ds3_gather_for_generation": LAUNCHER,
    **dict.fromkeys(
        ("cache_implementation", "use_transformers_continuous_batching", "transformers_continuous_batching_config",
         "use_transformers_paged"), ENGINE),
    **dict.fromkeys(
        ("top_p", "top_k", "min_p", "repetition_penalty", "generation_kwargs", "vllm_structured_outputs_regex"), WHOLE),
    **dict.fromkeys(
        ("log_completions", "log_multimodal", "num_completions_to_print", "log_unique_prompts",
         "log_completions_hub_repo"), SAMPLES),
    "chat_template_kwargs": "the stage base sets the template's arguments",
    "reward_weights": "set the weight of each reward in `rewards`",
    "dataloader_drop_last": "a step always has complete groups of answers",
    **dict.fromkeys(("sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps"), SYNC),
}  # fmt: skip
ADAPTIVE = "its running coefficient is not in checkpoints: set entropy_coef"
OWN: dict[str, dict[str, str]] = {
    "SFTConfig": {
        **TRL,
        **dict.fromkeys(("dataset_text_field", "dataset_kwargs"), ROWS),
        "chat_template_path": TEMPLATE,
        "eos_token": TOKENIZER,
        "pad_token": TOKENIZER,
        "truncation_mode": CUT,
        "shuffle_dataset": "rows are shuffled by seed; set train_sampling_strategy: sequential to keep their order",
        "padding_free": "set packing: true",
        "eval_packing": "validation rows are never packed",
        "completion_only_loss": "the loss is on the assistant's turns; set train: false in a turn that is context",
        "assistant_only_loss": "omit it; the loss is on the assistant's turns alone",
    },
    "DPOConfig": {
        **TRL,
        **OTHER_LOSS,
        "label_smoothing_factor": "set label_smoothing",
        **PRECOMPUTED,
        "truncation_mode": CUT,
        "padding_free": "omit it; TRL disables it",
        "pad_token": TOKENIZER,
    },
    "KTOConfig": {**TRL, **OTHER_LOSS, **PRECOMPUTED, "data_seed": "the order of rows in KTO depends on seed"},
    "RewardConfig": {
        **TRL,
        **OWN_LOSS,
        "chat_template_path": TEMPLATE,
        "eos_token": TOKENIZER,
        "pad_token": TOKENIZER,
    },
    "GRPOConfig": {
        **TRL,
        **ONLINE,
        "cast_lm_head_to_fp32": "set bf16: false; tied embeddings below an adapter cannot be cast alone",
        "max_tool_calling_iterations": "rollouts call no tools",
        "vllm_importance_sampling_cap": "set vllm_importance_sampling_clip_max",
        **dict.fromkeys(
            ("use_adaptive_entropy", "entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target"),
            ADAPTIVE,
        ),
    },
    "RLOOConfig": {**TRL, **ONLINE},
    "pairs": OWN_LOSS,
    "tokens": OWN_LOSS,
    "ppo": {
        **OWN_LOSS,
        **NO_VALIDATION,
        "train_sampling_strategy": SAMPLER,
        "data_seed": SAMPLER,
        "dataloader_drop_last": SAMPLER,
    },
    "LoraConfig": {
        "task_type": "the stage determines it",
        "peft_type": "always LORA",
        **dict.fromkeys(("auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode"),
                        "peft writes it: set `parent`"),
        "fan_in_fan_out": "peft sets it for each type of layer",
        "megatron_config": LAUNCHER,
        "megatron_core": LAUNCHER,
        "loftq_config": "set `quantization`, with init_lora_weights: true",
        **dict.fromkeys(("eva_config", "corda_config", "lora_ga_config"),
                        "initializations from data are not supported; use init_lora_weights: true or orthogonal"),
        **dict.fromkeys(("velora_config", "monteclora_config", "arrow_config", "kasa_config", "use_bdlora",
                         "use_qalora", "qalora_group_size"), "use plain LoRA, use_rslora or use_dora"),
        "trainable_token_indices": "train the embeddings with modules_to_save: [embed_tokens]",
        "alora_invocation_tokens": "an adapter is active for the whole conversation",
        "layer_replication": "set student.drop_layers for another number of layers",
        "runtime_config": "not part of an adapter",
    },
    "BitsAndBytesConfig": {
        "llm_int8_enable_fp32_cpu_offload": "the whole model stays on one device",
        "bnb_4bit_quant_storage": "quantized weights are stored as bytes",
        "llm_int8_has_fp16_weight": "set quantization: null to keep 16-bit weights",
    },
}  # fmt: skip
SAME: dict[str, tuple[Any, ...]] = {
    "save_strategy": ("no",),
    "logging_strategy": ("steps",),
    "logging_steps": (1,),
    "logging_first_step": (False, True),
    "logging_nan_inf_filter": (False,),
    "remove_unused_columns": (False,),
    "prediction_loss_only": (False, True),
    "do_train": (False, True),
    "assistant_only_loss": NEVER,
    "completion_only_loss": (None,),
    "precompute_ref_log_probs": (True,),
    "peft_type": (None, "LORA"),
    "task_type": (None, "CAUSAL_LM"),
    "include_num_input_tokens_seen": ("no", False),
    "debug": ("", []),
    "reward_weights": (None,),
    "bnb_4bit_quant_storage": (None, "uint8"),
    "dataset_kwargs": (None,),
    "dataset_text_field": NEVER,
}
"""Accepted values of a refused key, where they differ from the library's default."""

EFFECTIVE: dict[str, str] = {
    "TrainingArguments": """
        per_device_train_batch_size num_train_epochs max_steps learning_rate lr_scheduler_type lr_scheduler_kwargs
        warmup_steps optim optim_args weight_decay adam_beta1 adam_beta2 adam_epsilon gradient_accumulation_steps
        max_grad_norm label_smoothing_factor bf16 fp16 tf32 gradient_checkpointing gradient_checkpointing_kwargs
        torch_compile torch_compile_backend torch_compile_mode use_liger_kernel liger_kernel_config neftune_noise_alpha
        torch_empty_cache_steps log_on_each_node log_level log_level_replica disable_tqdm report_to run_name project
        eval_strategy eval_steps eval_delay per_device_eval_batch_size load_best_model_at_end
        metric_for_best_model greater_is_better full_determinism seed data_seed dataloader_drop_last
        dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor
        dataloader_multiprocessing_context dataloader_in_order train_sampling_strategy""",
    "SFTConfig": """router_aux_loss_coef max_length packing packing_strategy pad_to_multiple_of loss_type
        activation_offloading""",
    "DPOConfig": """router_aux_loss_coef disable_dropout max_length pad_to_multiple_of loss_type loss_weights ld_alpha
        f_divergence_type f_alpha_divergence_coef label_smoothing beta use_weighting discopop_tau
        activation_offloading""",
    "KTOConfig": """router_aux_loss_coef disable_dropout max_length pad_to_multiple_of loss_type beta desirable_weight
        undesirable_weight activation_offloading""",
    "RewardConfig": """disable_dropout max_length pad_to_multiple_of center_rewards_coefficient
        activation_offloading""",
    "GRPOConfig": """router_aux_loss_coef disable_dropout num_generations max_completion_length
        shuffle_dataset pad_to_multiple_of generation_batch_size steps_per_generation temperature use_vllm vllm_mode
        vllm_model_impl vllm_enable_sleep_mode vllm_server_base_url vllm_server_host vllm_server_port
        vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length
        vllm_tensor_parallel_size beta num_iterations epsilon delta epsilon_high sapo_temperature_neg
        sapo_temperature_pos vespo_k_pos vespo_lambda_pos vespo_k_neg vespo_lambda_neg importance_sampling_level
        multi_objective_aggregation scale_rewards loss_type mask_truncated_completions top_entropy_quantile
        entropy_coef vllm_importance_sampling_correction vllm_importance_sampling_mode
        vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min off_policy_mask_threshold
        use_bias_correction_kl""",
    "RLOOConfig": """router_aux_loss_coef disable_dropout num_generations max_completion_length shuffle_dataset
        pad_to_multiple_of generation_batch_size steps_per_generation temperature use_vllm vllm_mode vllm_model_impl
        vllm_enable_sleep_mode vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout
        vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length vllm_tensor_parallel_size beta
        num_iterations epsilon epsilon_high normalize_advantages reward_clip_range mask_truncated_completions""",
    "LoraConfig": """r target_modules exclude_modules lora_alpha lora_dropout bias use_rslora modules_to_save
        init_lora_weights layers_to_transform layers_pattern rank_pattern alpha_pattern
        use_dora lora_bias target_parameters ensure_weight_tying""",
    "BitsAndBytesConfig": """load_in_8bit load_in_4bit llm_int8_threshold llm_int8_skip_modules
        bnb_4bit_compute_dtype bnb_4bit_quant_type bnb_4bit_use_double_quant""",
}
OWNERS: tuple[type, ...] = (
    SFTConfig, DPOConfig, KTOConfig, RewardConfig, GRPOConfig, RLOOConfig, TrainingArguments, LoraConfig,
    BitsAndBytesConfig,
)  # fmt: skip


def defaults(owner: type) -> Values:
    """Keys of a configuration class with their defaults."""
    if owner is BitsAndBytesConfig:  # a dataclass in name only: its arguments are those of __init__
        signature = inspect.signature(owner).parameters.items()
        return {name: one.default for name, one in signature if one.kind is not one.VAR_KEYWORD}
    missing = dataclasses.MISSING
    plain = {}
    for field in dataclasses.fields(owner):
        made = None if field.default_factory is missing else field.default_factory()
        plain[field.name] = made if field.default is missing else field.default
    return plain


def refused(owner: type, kind: str) -> dict[str, str]:
    """Keys without an effect, each with its replacement. `kind` is the class's name or another key of `OWN`."""
    table = {**(COMMON if issubclass(owner, TrainingArguments) else {}), **OWN[kind]}
    return {name: use for name, use in table.items() if name in defaults(owner)}


def effective(owner: type, kind: str) -> set[str]:
    """Keys that have an effect."""
    names = set(EFFECTIVE[owner.__name__].split())
    if issubclass(owner, TrainingArguments):
        names |= set(EFFECTIVE["TrainingArguments"].split()) - OWN[kind].keys()
    return names if owner is not TrainingArguments else names - OWN[kind].keys()


def refusal(owner: type, kind: str, name: str, value: Any) -> str | None:
    """Error message for a key with this value; None if the key has an effect or the value changes nothing."""
    use = refused(owner, kind).get(name)
    if use is None:
        return None
    accepted = SAME.get(name, (defaults(owner)[name],))
    if any(type(value) is type(one) and value == one for one in accepted):
        return None
    shown = " or ".join(str(one) for one in accepted)
    return f"{name}: no effect here; expected {shown or 'no value'}, got {value!r}. Instead: {use}."
