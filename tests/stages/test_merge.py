import shutil

import pytest
import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import Qwen3Config, Qwen3ForCausalLM

from conftest import record_files
from ladder.models.checkpoint import load, load_complete, read_rung, save_rung
from ladder.models.merge_config import with_paths
from ladder.pipeline.stage import UserError
from ladder.training.model_setup import climb
from perf.pico import pico_model, pico_tokenizer
from stages import merge_input
from stages.merge import Params, linked, main

TOKENIZER = pico_tokenizer()
TOKENS = torch.tensor([TOKENIZER.encode("A few words of no meaning.")])


@pytest.fixture
def rung(tmp_path, base):
    """Make a complete rung from a seed, or an adapter on the base from its LoraConfig."""

    def make(name, seed, *, layers=2, **lora):
        model = pico_model(TOKENIZER, seed=seed, layers=layers).to(torch.bfloat16)
        if lora:
            config = LoraConfig(**{"target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora})
            model = get_peft_model(load(base, base).model, config)
            torch.manual_seed(seed)
            for weight in (weight for name, weight in model.named_parameters() if "lora_" in name):
                torch.nn.init.normal_(weight, std=0.1)
        ground = read_rung(base) if lora else None
        save_rung(tmp_path / "models" / name, model, TOKENIZER, rung=name, method="sft", base=ground)
        return tmp_path / "models" / name

    return make


def merge(tmp_path, base, parents, *, keep="complete", name="soup", **config):
    names = [read_rung(parent).rung for parent in parents]
    params = Params(parents=names, keep=keep, seed=0, config={"dtype": "float32", "out_dtype": "bfloat16", **config})
    output = tmp_path / "models/merge" / name
    links = tmp_path / "links" / name
    for place, parent in enumerate(parents):
        merge_input.main(merge_input.Params(), parent, links / f"{place}.json")
    main(params, links, base, output, tmp_path / "soup.json")
    return output


def models(*weighted, **parameters):
    return [{"model": name, "parameters": {"weight": weight, **parameters}} for name, weight in weighted]


def weights(directory, base):
    return load_complete(directory, base, dtype=torch.float32).model.state_dict()


def logits(directory, base):
    with torch.no_grad():
        return load(directory, base, dtype=torch.float32).model(TOKENS).logits


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name].bfloat16().float(), atol=0, rtol=0, msg=name)


def moved(base, start, *steps):
    """start + sum of weight * (rung - start): task arithmetic, worked by hand in float32."""
    zero = weights(start, base)
    tasks = [(weight, weights(directory, base)) for weight, directory in steps]
    return {name: value + sum(w * (task[name] - value) for w, task in tasks) for name, value in zero.items()}


def test_a_linear_merge_is_the_weighted_mean(tmp_path, base, rung):
    one, two = rung("sft/one", 5), rung("sft/two", 6)
    soup = merge(tmp_path, base, (one, two), merge_method="linear", models=models(("sft/one", 0.25), ("sft/two", 0.75)))
    first, second = weights(one, base), weights(two, base)
    assert_equal(weights(soup, base), {name: 0.25 * first[name] + 0.75 * second[name] for name in first})
    made = read_rung(soup)
    assert (made.rung, made.kind, made.method) == ("merge/soup", "complete", "merge")
    assert made.parents == {"sft/one": read_rung(one).identity, "sft/two": read_rung(two).identity}


@pytest.mark.parametrize(("method", "density"), [("task_arithmetic", {}), ("dare_linear", {"density": 1.0})])
def test_task_arithmetic_adds_differences(tmp_path, base, rung, method, density):
    one, two = rung("sft/one", 5), rung("sft/two", 6)
    entries = models(("sft/one", 0.5), ("sft/two", -0.25), **density)
    soup = merge(tmp_path, base, (one, two), merge_method=method, base_model="base", models=entries)
    found, expected = weights(soup, base), moved(base, base, (0.5, one), (-0.25, two))
    for name, weight in found.items():
        torch.testing.assert_close(weight, expected[name], atol=1e-6, rtol=2**-8)


def test_ties_of_three_rungs_is_the_mean_of_each_entrys_elected_sign(tmp_path, base, rung):
    parents = [rung(f"sft/{name}", seed) for name, seed in (("one", 5), ("two", 6), ("three", 7))]
    entries = models(("sft/one", 1.0), ("sft/two", 1.0), ("sft/three", 1.0), density=1.0)
    soup = merge(tmp_path, base, parents, merge_method="ties", base_model="base", models=entries)
    zero, found = weights(base, base), weights(soup, base)
    tasks = [weights(parent, base) for parent in parents]
    for name, start in zero.items():  # Yadav et al. 2023, algorithm 1
        steps = torch.stack([task[name] - start for task in tasks])
        agree = torch.sign(steps) == torch.where(steps.sum(0) >= 0, 1.0, -1.0)
        expected = start + (steps * agree).sum(0) / agree.sum(0).clamp(min=1)
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=2**-8)
    assert list(read_rung(soup).parents) == ["base", "sft/one", "sft/two", "sft/three"]


def test_slerp_takes_two_rungs(tmp_path, base, rung):
    parents = [rung(f"sft/{name}", seed) for name, seed in (("one", 5), ("two", 6), ("three", 7))]
    config = {"merge_method": "slerp", "base_model": "sft/one", "parameters": {"t": 0.5}}
    with pytest.raises(UserError, match="^merge config: "):
        merge(tmp_path, base, parents, models=[{"model": f"sft/{name}"} for name in ("one", "two", "three")], **config)


def test_one_rung_merges_with_itself_alone(tmp_path, base, rung):
    one = rung("sft/one", 5)
    assert_equal(
        weights(merge(tmp_path, base, [one], merge_method="linear", models=models(("sft/one", 2.0))), base),
        weights(one, base),
    )


def test_a_parent_that_is_not_what_its_link_names_is_refused(tmp_path, rung):
    one, links = rung("sft/one", 5), tmp_path / "links"
    merge_input.main(merge_input.Params(), one, links / "0.json")
    params = Params(parents=["sft/one"], seed=0, config={"merge_method": "linear", "models": models(("sft/one", 1.0))})
    assert linked(params, links) == [one]
    shutil.rmtree(one)
    rung("sft/one", 6)
    with pytest.raises(UserError, match=r"0\.json: expected sft/one as it is in .*`dvc repro` makes the link again"):
        linked(params, links)
    merge_input.main(merge_input.Params(), one, links / "1.json")
    with pytest.raises(UserError, match=r"1\.json: the merge has 1 parents; .*`ladder prune`"):
        linked(params, links)


def test_a_task_vector_is_undone_by_its_negative(tmp_path, base, rung):
    one = rung("sft/one", 5)
    add = {"merge_method": "task_arithmetic", "base_model": "base", "out_dtype": "float32"}
    there = merge(tmp_path, base, (base, one), models=models(("sft/one", 1.0)), **add)
    assert_equal(weights(there, base), weights(one, base))
    add |= {"base_model": "merge/soup", "models": [*models(("base", 1.0), ("sft/one", 1.0))]}
    back = merge(tmp_path, base, (there, one), name="back", **add)  # soup + (base - soup) + (one - soup), soup = one
    for name, weight in weights(back, base).items():
        torch.testing.assert_close(weight, weights(base, base)[name], atol=1e-6, rtol=1e-5)


def test_ties_of_whole_differences_with_one_sign_is_task_arithmetic(tmp_path, base, rung):
    one = rung("sft/one", 5)
    entries = models(("sft/one", 0.5), density=1.0)
    whole = {"merge_method": "ties", "base_model": "base", "parameters": {"normalize": False}}
    found = merge(tmp_path, base, (base, one), models=entries, **whole)
    assert_equal(weights(found, base), moved(base, base, (0.5, one)))


def test_ties_keeps_the_majoritys_sign(tmp_path, base, rung):
    one, two = rung("sft/one", 5), rung("sft/two", 6)
    entries = models(("sft/one", 1.0), ("sft/two", 1.0), density=1.0)
    soup = merge(tmp_path, base, (one, two), merge_method="ties", base_model="base", models=entries)
    zero, first, second, found = (weights(directory, base) for directory in (base, one, two, soup))
    for (
        name,
        start,
    ) in zero.items():  # Yadav et al. 2023, algorithm 1: the mean of the differences with the elected sign
        steps = torch.stack([first[name] - start, second[name] - start])
        agree = torch.sign(steps) == torch.where(steps.sum(0) >= 0, 1.0, -1.0)
        expected = start + (steps * agree).sum(0) / agree.sum(0).clamp(min=1)
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=2**-8)


@pytest.mark.parametrize(("t", "end"), [(0.0, 0), (1.0, 1)])
def test_slerp_goes_from_end_to_end(tmp_path, base, rung, t, end):
    ends = rung("sft/one", 5), rung("sft/two", 6)
    config = {"merge_method": "slerp", "base_model": "sft/one", "models": [{"model": "sft/one"}, {"model": "sft/two"}]}
    found = weights(merge(tmp_path, base, ends, parameters={"t": t}, **config), base)
    for name, weight in weights(ends[end], base).items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=2**-8)


@pytest.mark.parametrize("method", ["linear", "ties", "dare_ties", "dare_linear", "task_arithmetic"])
def test_a_merge_is_mergekits_bit_for_bit(tmp_path, base, rung, method):
    one, two = rung("sft/one", 5), rung("sft/two", 6)
    pruned = {"density": 0.5} if "ties" in method or "dare" in method else {}
    config = {"merge_method": method, "models": models(("sft/one", 0.75), ("sft/two", 0.5), **pruned)}
    config |= {} if method == "linear" else {"base_model": "base"}
    ours = merge(tmp_path, base, (one, two), dtype="bfloat16", **config)
    given = with_paths({**config, "dtype": "bfloat16"}, {"base": base, "sft/one": one, "sft/two": two})
    options = MergeOptions(random_seed=0, write_model_card=False, copy_tokenizer=False, quiet=True)
    run_merge(MergeConfiguration.model_validate(given), str(tmp_path / "theirs"), options)
    expected = load_file(tmp_path / "theirs/model.safetensors")
    found = load_file(ours / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())


def test_dare_is_byte_stable_by_its_seed(tmp_path, base, rung):
    one, two = rung("sft/one", 5), rung("sft/two", 6)
    config = {"merge_method": "dare_ties", "base_model": "base"}
    config["models"] = models(("sft/one", 0.5), ("sft/two", 0.5), density=0.5)
    first, second = (merge(tmp_path, base, (one, two), name=name, **config) for name in ("first", "second"))
    assert read_rung(first).files == read_rung(second).files


def test_layers_are_stacked(tmp_path, base, rung):
    one, two = rung("sft/one", 5), rung("sft/two", 6, layers=3)
    slices = [{"sources": [{"model": "sft/one", "layer_range": [0, 2]}]}]
    slices += [{"sources": [{"model": "sft/two", "layer_range": [1, 3]}]}]
    stacked = merge(tmp_path, base, (one, two), merge_method="passthrough", slices=slices)
    found, first, second = (weights(directory, base) for directory in (stacked, one, two))
    name = "model.layers.{}.mlp.up_proj.weight"
    for layer, expected in enumerate([first[name.format(0)], first[name.format(1)], second[name.format(1)]]):
        assert torch.equal(found[name.format(layer)], expected)
    assert torch.equal(found[name.format(3)], second[name.format(2)])
    assert torch.equal(found["model.embed_tokens.weight"], first["model.embed_tokens.weight"])
    made = load(stacked, base)
    assert made.model.config.num_hidden_layers == 4
    assert (
        made.model.generate(TOKENS, max_new_tokens=3, min_new_tokens=3, do_sample=False).shape[1] == TOKENS.shape[1] + 3
    )


def test_stacked_layers_keep_their_types(tmp_path):
    types = ["sliding_attention", "full_attention"]
    settings = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Qwen3Config(
        **settings, vocab_size=len(TOKENIZER), num_hidden_layers=2, head_dim=8, layer_types=types,
        use_sliding_window=True, sliding_window=8, eos_token_id=TOKENIZER.eos_token_id,
    )  # fmt: skip
    model = Qwen3ForCausalLM(config).to(torch.bfloat16)
    save_rung(tmp_path / "base", model, TOKENIZER, rung="base", method="base")
    slices = [{"sources": [{"model": "base", "layer_range": each}]} for each in ([0, 2], [1, 2])]
    ends = (tmp_path / "base", tmp_path / "base")
    stacked = merge(tmp_path, tmp_path / "base", ends, merge_method="passthrough", slices=slices)
    assert load(stacked, stacked).model.config.layer_types == [*types, "full_attention"]


@pytest.mark.parametrize(
    "config",
    [
        {"merge_method": "linear", "models": models(("sft/one", 0.5), ("sft/two", 1.5), ("base", 0.5))},
        {
            "merge_method": "task_arithmetic",
            "base_model": "base",
            "models": models(("sft/one", 0.5), ("sft/two", -0.7)),
        },
        {"merge_method": "task_arithmetic", "base_model": "sft/one", "models": models(("sft/two", 0.4))},
    ],
)
def test_an_adapter_of_adapters_is_the_complete_merge(tmp_path, base, rung, config):
    parents = (
        rung("sft/one", 5, r=4),
        rung("sft/two", 6, r=2, lora_alpha=16, use_rslora=True, target_modules=["q_proj"]),
    )
    small = merge(tmp_path, base, parents, keep="adapter", name="small", **config)
    whole = merge(tmp_path, base, parents, name="whole", **{**config, "out_dtype": "float32"})
    assert [(read_rung(each).kind) for each in (small, whole)] == ["adapter", "complete"]
    torch.testing.assert_close(logits(small, base), logits(whole, base), atol=2e-4, rtol=1e-3)
    continued = climb(small, base, "continue", seed=0)
    assert continued.base == read_rung(base)


def test_an_adapter_is_merged_as_it_answers(tmp_path, base, rung):
    one = rung("sft/one", 5, r=4)
    config = {"merge_method": "linear", "models": models(("sft/one", 1.0)), "out_dtype": "float32"}
    found = merge(tmp_path, base, (one, base), **config)
    torch.testing.assert_close(logits(found, base), logits(one, base), atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("lora", "config", "said"),
    [
        ({"r": 2}, {"merge_method": "ties", "base_model": "base"}, "this merge by ties is no sum of adapters"),
        ({}, {"merge_method": "linear"}, "sft/two is a complete model"),
        ({"r": 2, "use_dora": True}, {"merge_method": "linear"}, "sft/two has use_dora: True"),
        ({"r": 2}, {"merge_method": "linear", "parameters": {"normalize": False}}, "expected weights that sum to 1"),
    ],
)
def test_what_is_no_sum_of_adapters_is_refused(tmp_path, base, rung, lora, config, said):
    parents = rung("sft/one", 5, r=4), rung("sft/two", 6, **lora)
    entries = models(("sft/one", 0.5), ("sft/two", 0.75))
    with pytest.raises(UserError, match=f"keep: adapter: {said}"):
        merge(tmp_path, base, parents, keep="adapter", models=entries, **config)


def test_weights_that_differ_by_layer_are_no_sum_of_adapters(tmp_path, base, rung):
    parents = rung("sft/one", 5, r=4), rung("sft/two", 6, r=4)
    entries = [*models(("sft/one", [0.0, 1.0])), *models(("sft/two", 1.0))]
    with pytest.raises(UserError, match="differ between tensors"):
        merge(tmp_path, base, parents, keep="adapter", merge_method="linear", models=entries)


def test_a_weight_that_is_no_number_is_found_in_its_rung(tmp_path, base, rung):
    one, two = rung("sft/one", 5), rung("sft/two", 6)
    model = load(two, base).model
    del two
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 4] = torch.nan
    model.save_pretrained(tmp_path / "models/sft/two")
    record_files(tmp_path / "models/sft/two")
    with pytest.raises(UserError, match=r"they are in sft/two's model.layers.1.mlp.up_proj.weight"):
        entries = models(("sft/one", 0.5), ("sft/two", 0.5))
        merge(tmp_path, base, (one, tmp_path / "models/sft/two"), merge_method="linear", models=entries)
    assert not (tmp_path / "models/merge/soup").exists()


def test_weights_whose_sum_is_not_one_are_reported(tmp_path, base, rung, capsys):
    entries = models(("sft/one", 1.0), ("base", 1.0))
    merge(tmp_path, base, (rung("sft/one", 5), base), merge_method="linear", models=entries)
    assert "the weights sum to 2; linear divides by the sum" in capsys.readouterr().out
