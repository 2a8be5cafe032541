"""Keys of TRL, transformers, peft and bitsandbytes: each has an effect or is rejected before weights are read."""

import dataclasses
import inspect
import math
import shutil

import pytest
from peft import LoraConfig
from transformers import BitsAndBytesConfig, TrainingArguments
from trl import DPOConfig, GRPOConfig, KTOConfig, RewardConfig, RLOOConfig, SFTConfig

from ladder.models.config_passthrough import adapter_check, build, passes, quantization_check
from ladder.pipeline.stage import UserError, fit
from ladder.training.dry_run import rehearse_adapter
from ladder.training.model_setup import climb
from ladder.training.train import trainer_arguments
from ladder.training.trainer_keys import effective, refused
from stages import sft

TRL = [(owner, owner.__name__) for owner in (SFTConfig, DPOConfig, KTOConfig, GRPOConfig, RLOOConfig, RewardConfig)]
OURS = [(TrainingArguments, kind) for kind in ("pairs", "tokens", "ppo")]


@pytest.mark.parametrize(("owner", "kind"), [*TRL, *OURS, (LoraConfig, "LoraConfig")])
def test_every_field_is_effective_or_refused(owner, kind):
    fields = {field.name for field in dataclasses.fields(owner)}
    has_effect, has_none = effective(owner, kind), refused(owner, kind).keys()
    assert has_effect | has_none == fields
    assert not has_effect & has_none
    assert all(refused(owner, kind).values())


def test_every_argument_of_bitsandbytes_is_effective_or_refused():
    names = set(inspect.signature(BitsAndBytesConfig.__init__).parameters) - {"self", "kwargs"}
    has_effect = effective(BitsAndBytesConfig, "BitsAndBytesConfig")
    has_none = refused(BitsAndBytesConfig, "BitsAndBytesConfig").keys()
    assert (has_effect | has_none, has_effect & has_none) == (names, set())


def said(owner, kind=None, **values):
    with pytest.raises(ValueError) as refusal:
        passes(owner, kind)(values)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("trainer", "words"),
    [
        ({"eval_strategy": "epoch"}, "trainer.eval_strategy: no rows to evaluate on. Set validation: {share: 0.05}"),
        ({"load_best_model_at_end": True}, "trainer.load_best_model_at_end: no rows to evaluate on. Set validation"),
        ({"assistant_only_loss": True}, "omit it; the loss is on the assistant's turns alone"),
        ({"completion_only_loss": True}, "the loss is on the assistant's turns"),
        ({"dataset_text_field": "text", "packing": True, "max_length": None}, "dataset_text_field: no effect here"),
        ({"packing": True, "max_length": None}, "packing: a packed row has max_length tokens; expected a number"),
        ({"warmup_ratio": 0.1}, "warmup_ratio: no such argument of SFTConfig. Instead: warmup_steps"),
        ({"push_to_hub": True}, "publish a rung with `dvc push`"),
        (
            {"report_to": "clearml"},
            "report_to: expected one of trackio, wandb, tensorboard, mlflow or none, got 'clearml'",
        ),
        ({"max_steps": 0}, "max_steps: expected 1 or more, or -1 for num_train_epochs, got 0"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: expected 1 or more, got 0"),
        ({"use_liger_kernel": True}, "use_liger_kernel: "),
        ({"chat_template_path": "other.jinja"}, "set base.chat_template"),
    ],
)
def test_keys_of_published_examples_are_refused_in_one_sentence(trainer, words):
    section = {"parent": "base", "data": "filter/chat", "lora": {"r": 8}, "trainer": trainer}
    with pytest.raises(UserError) as refusal:
        fit(sft.Params, section, "params.yaml: sft.chat")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, "1e-4", True, None, [1e-4]])
def test_a_learning_rate_is_a_finite_number_above_zero(value):
    assert said(SFTConfig, learning_rate=value).startswith("learning_rate: ")


@pytest.mark.parametrize(
    ("owner", "values", "words"),
    [
        (SFTConfig, {"gradient_accumulation_steps": 0}, "expected 1 or more, got 0"),
        (SFTConfig, {"per_device_train_batch_size": 8.0}, "valid integer, got 8.0"),
        (SFTConfig, {"max_steps": -5}, "or -1 for num_train_epochs, got -5"),
        (SFTConfig, {"num_train_epochs": 0}, "expected more than 0, got 0"),
        (SFTConfig, {"warmup_steps": -1}, "expected 0 or more, got -1"),
        (SFTConfig, {"warmup_steps": 2.5}, "a share of the steps below 1, got 2.5"),
        (SFTConfig, {"adam_beta2": 1.0}, "expected 0 or more and less than 1, got 1.0"),
        (SFTConfig, {"weight_decay": math.nan}, "expected a finite number, got nan"),
        (SFTConfig, {"max_grad_norm": -1}, "expected 0 or more, got -1"),
        (SFTConfig, {"seed": 2**32}, "at most 4294967295"),
        (SFTConfig, {"optim": "galore_adamw"}, "expected one of adamw_torch"),
        (SFTConfig, {"optim": "sgd", "optim_args": "momentun=0.9"}, "optim_args: expected momentum=…, dampening=…"),
        (SFTConfig, {"torch_compile": True, "torch_compile_backend": "induktor"}, "expected one of None, inductor"),
        (SFTConfig, {"gradient_checkpointing_kwargs": {"reentrant": True}}, "expected a mapping of use_reentrant"),
        (DPOConfig, {"gradient_checkpointing_kwargs": {"selective": True}}, "expected a mapping of use_reentrant"),
        (SFTConfig, {"lr_scheduler_type": "cosin"}, "expected one of linear"),
        (DPOConfig, {"beta": 0}, "beta: expected more than 0, got 0"),
        (DPOConfig, {"loss_type": ["ipo", "simpo"]}, "expected one of sigmoid"),
        (DPOConfig, {"loss_type": "robust", "label_smoothing": 0.5}, "less than 0.5, got 0.5"),
        (DPOConfig, {"loss_weights": [1.0, math.inf]}, "expected a finite number, got inf"),
        (GRPOConfig, {"num_generations": 1}, "expected 2 or more, got 1"),
        (GRPOConfig, {"max_completion_length": None}, "expected a whole number, got null"),
        (GRPOConfig, {"temperature": 0}, "expected more than 0, got 0"),
        (KTOConfig, {"desirable_weight": -1.0}, "expected 0 or more, got -1.0"),
    ],
)
def test_values_out_of_range(owner, values, words):
    assert words in said(owner, **values)


@pytest.mark.parametrize(
    ("owner", "kind", "values", "words"),
    [
        (
            SFTConfig,
            None,
            {"max_steps": 3, "num_train_epochs": 3},
            "num_train_epochs: no effect; expected it only with max_steps",
        ),
        (SFTConfig, None, {"lr_scheduler_type": "constant", "warmup_steps": 2}, "constant_with_warmup"),
        (SFTConfig, None, {"optim": "sgd", "adam_beta1": 0.8}, "adam_beta1: no effect; expected it only with optim"),
        (
            SFTConfig,
            None,
            {"optim_args": "momentum=0.9"},
            "optim_args: no effect; expected it only with optim: one of sgd",
        ),
        (SFTConfig, None, {"gradient_checkpointing_kwargs": {"use_reentrant": False}}, "gradient_checkpointing: true"),
        (SFTConfig, None, {"loss_type": "dft", "label_smoothing_factor": 0.1}, "loss_type: nll"),
        (SFTConfig, None, {"run_name": "first"}, "run_name: no effect; expected it only with report_to"),
        (DPOConfig, None, {"label_smoothing": 0.1}, "label_smoothing: no effect; expected it only with loss_type"),
        (DPOConfig, None, {"label_smoothing_factor": 0.1}, "Instead: set label_smoothing"),
        (DPOConfig, None, {"sync_ref_model": True}, "the stage reference"),
        (GRPOConfig, None, {"vllm_mode": "server"}, "vllm_mode: no effect; expected it only with engine: vllm"),
        (GRPOConfig, None, {"top_p": 0.9}, "the policy's own distribution"),
        (GRPOConfig, None, {"eval_strategy": "steps"}, "the stages heldout and benchmark"),
        (GRPOConfig, None, {"chat_template_kwargs": {"enable_thinking": False}}, "the stage base"),
        (TrainingArguments, "pairs", {"label_smoothing_factor": 0.1}, "this method has its own loss"),
        (TrainingArguments, "ppo", {"eval_strategy": "epoch"}, "the stages heldout and benchmark"),
    ],
)
def test_keys_without_an_effect_are_refused_with_what_to_use(owner, kind, values, words):
    assert words in said(owner, kind, **values)


@pytest.mark.parametrize(
    ("owner", "values"),
    [
        (SFTConfig, {"push_to_hub": False, "report_to": "none", "logging_steps": 1, "save_strategy": "no"}),
        (SFTConfig, {"do_train": True, "remove_unused_columns": False, "deepspeed": None}),
        (DPOConfig, {"loss_type": "ipo", "precompute_ref_log_probs": True}),
        (GRPOConfig, {"scale_rewards": False, "top_p": 1.0}),
        (RLOOConfig, {"reward_clip_range": [-1.0, 1.0]}),
    ],
)
def test_values_that_the_ladder_uses_anyway_are_accepted(owner, values):
    assert passes(owner)(values) == values


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("evaluation_strategy", "Instead: eval_strategy"),
        ("max_seq_length", "Instead: max_length"),
        ("group_by_length", "Instead: train_sampling_strategy: group_by_length"),
        ("tokenizer", "the tokenizer is the parent's"),
        ("learning_rte", "did you mean 'learning_rate'?"),
    ],
)
def test_keys_that_do_not_exist_name_their_successor(name, words):
    assert words in said(SFTConfig, **{name: 1})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"r": 0}, "r: expected 1 or more, got 0"),
        ({"lora_dropout": 1.0}, "lora_dropout: expected 0 or more and less than 1"),
        ({"lora_alpha": 0}, "lora_alpha: expected more than 0"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern: expected numbers of 1 or more, got 0 for 'q_proj'"),
        ({"task_type": "SEQ_CLS"}, "task_type: no effect here"),
        ({"init_lora_weights": "eva"}, "init_lora_weights: expected one of"),
        ({"trainable_token_indices": [1]}, "train the embeddings with modules_to_save: [embed_tokens]"),
        ({"r": 3, "init_lora_weights": "orthogonal"}, "r: expected even ranks"),
        ({"ensure_weight_tying": True}, "ensure_weight_tying: no effect; expected it only with embed_tokens"),
        ({"lora_r": 8}, "lora_r: no such argument of LoraConfig. Instead: r"),
        ({"layers_pattern": "layers"}, "layers_pattern: no effect; expected it only with layers_to_transform"),
    ],
)
def test_an_adapter_of_wrong_arguments(value, words):
    with pytest.raises(ValueError) as refusal:
        adapter_check(value)
    assert words in str(refusal.value)
    assert adapter_check({"r": 8, "task_type": "CAUSAL_LM"}) == {"r": 8, "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"load_in_4bit": True, "bnb_4bit_compute_dtype": "int8"}, "bnb_4bit_compute_dtype: expected one of float16"),
        (
            {"load_in_8bit": True, "bnb_4bit_quant_type": "nf4"},
            "bnb_4bit_quant_type: no effect; expected it only with load_in_4",
        ),
        ({"load_in_4bit": True, "bnb_4bit_quant_storage": "bfloat16"}, "quantized weights are stored as bytes"),
        ({"load_in_8bit": True, "llm_int8_has_fp16_weight": True}, "set quantization: null"),
    ],
)
def test_quantization_of_wrong_arguments(value, words):
    with pytest.raises(ValueError) as refusal:
        quantization_check(value)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"lr_scheduler_type": "linear", "lr_scheduler_kwargs": {"num_cycles": 2}}, "does not fit linear"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "does not fit warmup_stable_decay"),
        ({"optim": "schedule_free_adamw"}, "trainer.optim: schedule_free_adamw does not run here"),
    ],
)
def test_an_optimizer_and_its_schedule_are_tried_before_weights_are_read(values, words):
    with pytest.raises(UserError, match=words), trainer_arguments(passes(SFTConfig)(values)) as arguments:
        build(SFTConfig, arguments)


def test_an_optimizer_in_8_bits_runs():
    with trainer_arguments(passes(SFTConfig)({"optim": "adamw_8bit"})) as arguments:
        assert build(SFTConfig, arguments).optim == "adamw_8bit"


@pytest.mark.parametrize(
    ("lora", "words"),
    [
        ({"target_modules": ["q_proj", "query"]}, "lora.target_modules: no module is named 'query'; expected one of"),
        ({"target_modules": ".*query"}, "lora: refused by peft: "),
        ({"target_modules": "["}, "lora: refused by peft: "),
        ({"target_modules": []}, "lora: refused by peft: No `target_modules` passed"),
        (
            {"target_modules": ["q_proj", "lm_head"]},
            "reads lm_head.weight without its adapter, which would not be trained",
        ),
        ({"modules_to_save": ["score"]}, "lora.modules_to_save: no module is named 'score'"),
        ({"exclude_modules": ["query"]}, "lora.exclude_modules: no module is named"),
        ({"rank_pattern": {"query": 4}}, "lora.rank_pattern: no module matches"),
        ({"target_parameters": ["experts"]}, "lora.target_parameters: no module is named"),
        ({"target_modules": ["q_proj"], "layers_to_transform": [0, 2]}, "expected layers from 0 to 1, got 2"),
    ],
)
def test_an_adapter_that_fits_no_layer_is_refused_without_weights(tmp_path, base, lora, words):
    shutil.copy(base / "config.json", tmp_path)
    with pytest.raises(UserError) as refusal:
        rehearse_adapter(tmp_path, adapter_check({"r": 2, **lora}), task="CAUSAL_LM", fused=True)
    assert words in str(refusal.value)


def test_a_model_without_experts_has_no_router(base):
    with pytest.raises(UserError, match="trainer.router_aux_loss_coef: expected a mixture-of-experts model"):
        climb(base, base, {"r": 2}, seed=0, router=0.1)
