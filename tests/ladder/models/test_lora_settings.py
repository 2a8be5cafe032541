import pytest
import torch
from trl.trainer.utils import add_fused_lm_head

from ladder.models.checkpoint import load, save_rung
from ladder.pipeline.stage import UserError
from ladder.training.model_setup import climb
from perf.pico import pico_model, pico_tokenizer

Q = ["q_proj"]
IDS = torch.tensor([[5, 6, 40, 41, 2, 90, 5, 6]])


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ({"target_modules": [*Q, "lm_head"]}, "lora.target_modules: .*. Use lora.modules_to_save: .lm_head."),
        ({"target_parameters": ["lm_head.weight"]}, "lora.target_modules: .*. Use lora.modules_to_save: .lm_head."),
        ({"target_modules": [*Q, "embed_tokens"], "ensure_weight_tying": True}, "lora.ensure_weight_tying: a LoRA on"),
        ({"ensure_weight_tying": True}, "lora.ensure_weight_tying: no effect"),
        ({"target_modules": [*Q, "up"]}, "lora.target_modules: no module is named 'up'; expected one of .*up_proj"),
        ({"modules_to_save": ["head"]}, "lora.modules_to_save: no module is named 'head'; expected one of .*lm_head"),
        ({"modules_to_save": "lm_head"}, "lora.modules_to_save: expected a list of names, got 'lm_head'"),
        ({"target_parameters": ["up_proj.weights"]}, "lora.target_parameters: no module is named 'up_proj.weights'"),
        ({"rank_pattern": {"qproj": 2}}, "lora.rank_pattern: no module matches 'qproj'"),
        ({"layers_to_transform": [0, 2]}, "lora.layers_to_transform: expected layers from 0 to 1, got 2"),
        ({"trainable_token_indices": [259]}, "lora.trainable_token_indices: expected tokens from 0 to 258, got 259"),
        ({"trainable_token_indices": [-1]}, "lora.trainable_token_indices: expected tokens from 0 to 258, got -1"),
        (
            {"trainable_token_indices": [5], "modules_to_save": ["lm_head"]},
            "lora.trainable_token_indices: the embeddings are tied, and lora.modules_to_save: .*. Use one of the two",
        ),
        (
            {"trainable_token_indices": [5], "modules_to_save": ["embed_tokens"]},
            "lora: refused by peft: .*but not both|lora.trainable_token_indices: .*. Use one of the two",
        ),
        ({"target_modules": ["norm"]}, "lora: refused by peft: Target module LlamaRMSNorm"),
        ({"target_modules": "("}, "lora: refused by peft: missing \\)"),
        ({"lora_bias": True}, "lora.lora_bias: the layers have no bias"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "lora.layer_replication: .*Merge with slices instead"),
        ({"alora_invocation_tokens": [2]}, "lora.alora_invocation_tokens: peft cannot merge"),
        ({"use_qalora": True}, "lora.use_qalora: no effect"),
        ({"inference_mode": True}, "lora.inference_mode: no weight would be trained"),
    ],
)
def test_what_a_rung_cannot_keep_is_refused_before_training(base, lora, said):
    with pytest.raises(UserError, match=said):
        climb(base, base, {"r": 2, "target_modules": Q, **lora}, seed=0)


def test_tied_weights_are_asked_for_only_where_they_are_tied(tmp_path):
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(259, 32))
    save_rung(tmp_path / "base", model, tokenizer, rung="base", method="base")
    lora = {"r": 2, "target_modules": Q, "modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}
    with pytest.raises(UserError, match="lora.ensure_weight_tying: no effect; expected a model with tied embeddings"):
        climb(tmp_path / "base", tmp_path / "base", lora, seed=0)


@pytest.mark.parametrize(
    "lora",
    [
        {"trainable_token_indices": [5, 6]},
        {"modules_to_save": ["lm_head"]},
        {"modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True},
        {"target_modules": [*Q, "embed_tokens"]},
    ],
)
def test_trainers_that_skip_the_output_layer_learn_from_its_logits(tmp_path, base, lora):
    """TRL's fused head, used by SFT, DPO, KTO, GRPO, RLOO, SimPO and ORPO, compared with the logits and gradients."""
    climbed = climb(base, base, {"r": 2, "target_modules": Q, **lora}, seed=0)
    learned = go_on(tmp_path, base, climbed).start.model.float()
    weights = {name: weight for name, weight in learned.named_parameters() if weight.requires_grad}
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(0.1 * torch.randn_like(weight))
    expected = torch.log_softmax(learned(IDS).logits[:, :-1], -1).gather(-1, IDS[:, 1:, None])[..., 0]
    expected.sum().backward()
    gradients = {name: weight.grad.clone() for name, weight in weights.items()}
    learned.zero_grad()
    add_fused_lm_head(learned.get_base_model())
    found = learned(IDS, labels=IDS, fused_lm_head=True).log_probs
    found.sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    for name, weight in weights.items():
        torch.testing.assert_close(weight.grad, gradients[name], atol=1e-4, rtol=1e-4, msg=name)


def go_on(tmp_path, base, climbed):
    """The adapter, saved and continued, as a trainer gets it with `lora: continue`."""
    start = climbed.start
    save_rung(tmp_path / "a", start.model, start.tokenizer, rung="sft/a", method="sft", base=climbed.base)
    return climb(tmp_path / "a", base, "continue", seed=0)


def test_a_lora_on_the_output_layer_goes_on_only_where_it_is_trained(tmp_path, base):
    lora = {"r": 2, "target_modules": [*Q, "lm_head"]}
    climbed = climb(base, base, lora, seed=0, fused=False)
    with pytest.raises(UserError, match="lora.target_modules: the trainer reads lm_head.weight without its adapter"):
        go_on(tmp_path, base, climbed)
    assert climb(tmp_path / "a", base, "continue", seed=0, fused=False).base == climbed.base


def test_an_adapter_of_an_embedding_holds_no_copy_of_it(tmp_path, base):
    climbed = climb(base, base, {"r": 2, "target_modules": [*Q, "embed_tokens"]}, seed=0)
    start = climbed.start
    save_rung(tmp_path / "a", start.model, start.tokenizer, rung="sft/a", method="sft", base=climbed.base)
    assert (tmp_path / "a/adapter_model.safetensors").stat().st_size < 259 * 32 * 2
    assert load(tmp_path / "a", base).rung.kind == "adapter"


def test_peft_changes_no_params(base):
    lora = {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    climb(base, base, {**lora, "ensure_weight_tying": True}, seed=0)
    assert lora["modules_to_save"] == ["embed_tokens", "lm_head"]
