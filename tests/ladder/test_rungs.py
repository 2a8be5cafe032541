"""One rung, one model: every way of loading a saved rung gives the logits of the model in training."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from ladder.models.checkpoint import load, load_complete, read_rung, save_rung
from ladder.models.tied_embeddings import merged
from ladder.pipeline.stage import UserError
from ladder.training.model_setup import climb
from perf.pico import pico_tokenizer
from stages import merge, merge_input

IDS = torch.tensor([[5, 6, 7, 40, 41, 2, 90, 100, 5, 6, 7]])  # includes the tokens of trainable_token_indices
SIZE = {"vocab_size": 264, "num_hidden_layers": 2, "initializer_range": 0.2, "pad_token_id": 0, "eos_token_id": 2}
WIDE = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
SHAPES = {
    "llama": lambda **tie: LlamaForCausalLM(LlamaConfig(**SIZE, **WIDE, head_dim=8, **tie)),
    "qwen2": lambda **tie: Qwen2ForCausalLM(Qwen2Config(**SIZE, **WIDE, **tie)),
    "gemma": lambda **tie: GemmaForCausalLM(GemmaConfig(**SIZE, **{**WIDE, "hidden_size": 64}, **tie)),
    "gpt2": lambda **tie: GPT2LMHeadModel(GPT2Config(**SIZE, n_embd=32, n_head=4, n_positions=512, **tie)),
}
Q = ["q_proj"]
# Settings, and whether a tied base is still tied in the complete rung.
KINDS = {
    "linears": ({}, True),
    "embed_tokens": ({"target_modules": [*Q, "embed_tokens"]}, False),
    "embed_tokens, DoRA": ({"target_modules": [*Q, "embed_tokens"], "use_dora": True}, False),
    "embed_tokens' weight": ({"target_modules": Q, "target_parameters": ["embed_tokens.weight"]}, False),
    "lm_head": ({"target_modules": [*Q, "lm_head"]}, False),
    "embed_tokens and lm_head": ({"target_modules": [*Q, "embed_tokens", "lm_head"]}, False),
    "saved lm_head": ({"target_modules": Q, "modules_to_save": ["lm_head"]}, False),
    "saved embed_tokens": ({"target_modules": Q, "modules_to_save": ["embed_tokens"]}, False),
    "saved both": ({"target_modules": Q, "modules_to_save": ["embed_tokens", "lm_head"]}, False),
    "LoRA in, saved out": ({"target_modules": [*Q, "embed_tokens"], "modules_to_save": ["lm_head"]}, False),
    "tokens": ({"target_modules": Q, "trainable_token_indices": [5, 6]}, True),
    "tokens out": ({"target_modules": Q, "trainable_token_indices": {"lm_head": [5, 6]}}, False),
    "tokens apart": ({"target_modules": Q, "trainable_token_indices": {"embed_tokens": [5], "lm_head": [7]}}, False),
    "norm": ({"target_modules": Q, "modules_to_save": ["norm"]}, True),
    "DoRA": ({"use_dora": True}, True),
    "patterns": ({"target_modules": [*Q, "v_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v.*": 32}}, True),
    "rsLoRA": ({"use_rslora": True}, True),
    "bias": ({"bias": "all"}, True),
    "one layer": ({"target_modules": Q, "layers_to_transform": [1]}, True),
    "a layer's weight": ({"target_modules": [], "target_parameters": ["mlp.up_proj.weight"]}, True),
}  # fmt: skip
SAVED_TIED = {"target_modules": Q, "modules_to_save": ["embed_tokens", "lm_head"], "ensure_weight_tying": True}


def new_base(directory, shape, tied, vocabulary=None):
    """A base rung whose tokenizer is the one that AutoTokenizer creates for this type of model."""
    torch.manual_seed(0)
    model = SHAPES[shape](tie_word_embeddings=tied)
    for weight in model.parameters():  # biases and norms too
        torch.nn.init.normal_(weight, mean=float(weight.dim() == 1 and shape != "gemma"), std=0.2)
    model.config.save_pretrained(directory / "raw")
    pico_tokenizer().save_pretrained(directory / "raw")
    tokenizer = AutoTokenizer.from_pretrained(directory / "raw")
    if vocabulary:
        tokenizer.add_tokens(["<tool>", "</tool>"], special_tokens=True)
        model.resize_token_embeddings(vocabulary)
    save_rung(directory / "base", model.bfloat16(), tokenizer, rung="base", method="base")
    return directory / "base"


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def trained(base, lora, **how):
    """Train in float32 (so that ways of loading differ only by float32 rounding), changing every trained weight."""
    climbed = climb(base, base, {"r": 4, **lora}, seed=0, fused=False, **how)
    model = climbed.start.model.float()
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    return climbed, model


def saved(directory, climbed, model, **how):
    start = climbed.start
    save_rung(directory / "sft/a", model, start.tokenizer, rung="sft/a", method="sft", base=climbed.base, **how)
    return directory / "sft/a"


def plain(directory):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)


def tied(directory):
    return json.loads((directory / "config.json").read_text()).get("tie_word_embeddings", False)


def linked(directory, *parents):
    """A merge's folder of links to its parents."""
    for place, parent in enumerate(parents):
        merge_input.main(merge_input.Params(), parent, directory / f"links/{place}.json")
    return directory / "links"


def merge_alone(directory, rung, base):
    """The merge stage's sum of one model."""
    config = {"merge_method": "linear", "dtype": "float32", "models": [{"model": "sft/a", "parameters": {"weight": 1}}]}
    params = merge.Params(parents=("sft/a", "base"), seed=0, config=config)
    merge.main(params, linked(directory, rung, base), base, directory / "merge/a", directory / "a.json")
    return directory / "merge/a"


def assert_one_model(directory, base, lora, *, stays_tied, merges=True):
    before = logits(plain(base))
    climbed, model = trained(base, lora)
    expected = logits(model)
    assert (expected - before).abs().max() > 0.2
    rung = saved(directory, climbed, model)
    found = {
        "load": load(rung, base, dtype=torch.float32).model,
        "peft": PeftModel.from_pretrained(plain(base), rung),
        "load_complete": load_complete(rung, base, dtype=torch.float32).model,
        "merged": merged(model),
    }
    save_rung(directory / "whole", found["merged"], climbed.start.tokenizer, rung="whole", method="sft")
    complete = [directory / "whole"]
    if merges:
        complete.append(merge_alone(directory, rung, base))
    for way in complete:
        assert tied(way) == stays_tied
        found |= {f"{way}, plain": plain(way), f"{way}, load": load(way, base, dtype=torch.float32).model}
    for way, one in found.items():
        # float32 sums in another order; a wrong update differs by 1 or more
        torch.testing.assert_close(
            logits(one), expected, atol=2e-4, rtol=1e-4, msg=lambda said, way=way: f"{way}: {said}"
        )


@pytest.mark.parametrize("kind", KINDS)
def test_every_way_on_tied_embeddings(tmp_path, kind):
    lora, stays = KINDS[kind]
    assert_one_model(tmp_path, new_base(tmp_path, "llama", True), lora, stays_tied=stays)


@pytest.mark.parametrize("kind", ["embed_tokens and lm_head", "saved both", "tokens apart", "linears"])
def test_every_way_on_untied_embeddings(tmp_path, kind):
    assert_one_model(tmp_path, new_base(tmp_path, "llama", False), KINDS[kind][0], stays_tied=False)


@pytest.mark.parametrize(
    "lora", [SAVED_TIED, {"target_modules": Q, "trainable_token_indices": [5], "ensure_weight_tying": True}]
)
def test_weights_that_are_kept_tied_stay_tied(tmp_path, lora):
    assert_one_model(tmp_path, new_base(tmp_path, "llama", True), lora, stays_tied=True)


@pytest.mark.parametrize("kind", ["embed_tokens", "saved lm_head", "bias"])
def test_every_way_of_qwen2(tmp_path, kind):
    lora, stays = KINDS[kind]
    assert_one_model(tmp_path, new_base(tmp_path, "qwen2", True), lora, stays_tied=stays)


@pytest.mark.parametrize("targets", [["c_attn", "wte"], ["c_attn", "lm_head"], ["c_attn", "c_fc"]])
def test_every_way_of_gpt2(tmp_path, targets):
    stays = targets[1] == "c_fc"
    assert_one_model(
        tmp_path, new_base(tmp_path, "gpt2", True), {"target_modules": targets}, stays_tied=stays, merges=False
    )


def test_where_mergekit_has_no_output_layer_a_merge_is_refused(tmp_path):
    base = new_base(tmp_path, "gemma", True)
    lora = {"target_modules": Q, "modules_to_save": ["lm_head"]}
    assert_one_model(tmp_path, base, lora, stays_tied=False, merges=False)
    with pytest.raises(UserError, match="mergekit does not know the tensor lm_head.weight"):
        merge_alone(tmp_path, tmp_path / "sft/a", base)


@pytest.mark.parametrize("kind", ["linears", "saved both", "tokens"])
def test_every_way_on_a_vocabulary_that_was_resized(tmp_path, kind):
    base = new_base(tmp_path, "llama", True, vocabulary=272)
    assert json.loads((base / "config.json").read_text())["vocab_size"] == 272
    lora, stays = KINDS[kind]
    assert_one_model(tmp_path, base, lora, stays_tied=stays)


def test_tied_and_untied_rungs_merge_as_their_weights_say(tmp_path):
    base = new_base(tmp_path, "llama", True)
    climbed, model = trained(base, KINDS["embed_tokens"][0])
    rung = saved(tmp_path, climbed, model)
    models = [{"model": name, "parameters": {"weight": share}} for name, share in (("base", 0.75), ("sft/a", 0.25))]
    params = merge.Params(
        parents=("sft/a", "base"), seed=0, config={"merge_method": "linear", "dtype": "float32", "models": models}
    )
    merge.main(params, linked(tmp_path, rung, base), base, tmp_path / "merge/a", tmp_path / "a.json")
    first, second = plain(base), merged(model)
    with torch.no_grad():
        for (name, weight), other in zip(second.named_parameters(), second.state_dict().values(), strict=True):
            start = first.lm_head.weight if name == "lm_head.weight" else first.get_parameter(name)
            weight.copy_(0.75 * start + 0.25 * other)
    assert not tied(tmp_path / "merge/a")
    torch.testing.assert_close(logits(plain(tmp_path / "merge/a")), logits(second), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["linears", "saved both", "embed_tokens", "DoRA"])
def test_quantized_weights_are_those_that_it_was_trained_on(tmp_path, kind):
    nf4 = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": "bfloat16"}
    base = new_base(tmp_path, "llama", True)
    climbed = climb(base, base, {"r": 4, **KINDS[kind][0]}, seed=0, quantization=nf4)
    model = climbed.start.model
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in (each for each in model.parameters() if each.requires_grad):
            weight.add_(0.1 * torch.randn_like(weight))
    expected = logits(model).float()
    rung = saved(tmp_path, climbed, model, quantization=nf4)
    ways = [way(rung, base, dtype=torch.float32).model for way in (load, load_complete)]
    torch.testing.assert_close(logits(ways[0]), logits(ways[1]), atol=2e-4, rtol=1e-4)
    moved = (expected - logits(plain(base))).norm()
    # the quantized layers compute in bfloat16: 2% of what the adapter and the rounding moved
    assert (logits(ways[0]) - expected).norm() < 0.05 * expected.norm() < 0.1 * moved


def test_a_rung_of_an_untied_parent_is_complete_and_one_model(tmp_path):
    base = new_base(tmp_path, "llama", True)
    parent = saved(tmp_path, *trained(base, KINDS["embed_tokens"][0]))
    climbed = climb(parent, base, {"r": 4}, seed=0)
    assert climbed.base is None
    model = merged(climbed.start.model.float())
    save_rung(tmp_path / "next", model, climbed.start.tokenizer, rung="sft/b", method="sft")
    assert not tied(tmp_path / "next")
    torch.testing.assert_close(logits(plain(tmp_path / "next")), logits(model), atol=1e-5, rtol=1e-4)
    assert read_rung(tmp_path / "next").kind == "complete"
