import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import GenerationConfig

from ladder.data.atomic_write import published
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.models.weights import read_adapter
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer
from stages.base import Params, load_directory, main

CASE = {"bos_token_id": 1, "eos_token_id": 2, "temperature": 0.9, "top_p": 0.6}


@pytest.fixture
def released(tmp_path):
    """A model's directory as released, in three shards."""
    model, tokenizer = pico_model(pico_tokenizer()), pico_tokenizer()
    model.save_pretrained(tmp_path / "released", max_shard_size="60KB")
    tokenizer.save_pretrained(tmp_path / "released")
    return tmp_path / "released"


def shards(directory):
    return sorted(directory.glob("model-*.safetensors"))


def made(directory, tmp_path):
    main(Params(source=str(directory)), tmp_path, tmp_path / "models/base", tmp_path / "base.json")
    return tmp_path / "models/base"


def left(tmp_path):
    return sorted(path.name for path in (tmp_path / "models").iterdir())


@pytest.mark.parametrize(
    ("written", "eos"),
    [
        (CASE, 2),
        ({**CASE, "eos_token_id": [2, 0], "do_sample": False, "top_k": 40, "repetition_penalty": 1.1}, [2, 0]),
        ({**CASE, "do_sample": True, "max_length": 4096}, 2),
        ({**CASE, "max_new_tokens": -1}, 2),
        ({**CASE, "num_beams": 1, "num_return_sequences": 3, "early_stopping": "sometimes"}, 2),
        ({**CASE, "eos_token_id": "</s>", "watermarking_config": {"bias": "x"}}, 2),
        ({**CASE, "cache_implementation": "no such", "a_field_of_next_year": {"x": [1]}}, 2),
    ],
)
def test_a_base_keeps_no_sampling_fields(tmp_path, released, written, eos):
    (released / "generation_config.json").write_text(json.dumps(written))
    base = made(released, tmp_path)
    found = json.loads((base / "generation_config.json").read_text())
    found.pop("transformers_version")
    assert found == {"bos_token_id": found.get("bos_token_id"), "eos_token_id": eos, "pad_token_id": 0}
    assert left(tmp_path) == ["base"]


def test_sampling_fields_of_config_json_are_no_generation_fields(tmp_path, released):
    config = json.loads((released / "config.json").read_text())
    (released / "config.json").write_text(json.dumps({**config, "temperature": 0.7, "do_sample": True}))
    base = made(released, tmp_path)
    assert "temperature" not in (base / "config.json").read_text() + (base / "generation_config.json").read_text()


def test_every_save_clears_sampling_fields(tmp_path, base):
    loaded = load(base, base)
    loaded.model.generation_config = GenerationConfig(eos_token_id=[2, 0], temperature=0.9, top_p=0.6)
    save_rung(tmp_path / "a", loaded.model, loaded.tokenizer, rung="a", method="sft")
    found = json.loads((tmp_path / "a/generation_config.json").read_text())
    assert {key for key in found if key != "transformers_version"} == {"eos_token_id"}


@pytest.mark.parametrize("text", ["{", "[1]", "\xff"])
def test_a_generation_config_that_is_no_object_is_named(tmp_path, released, text):
    (released / "generation_config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=f"{released}/generation_config.json: "):
        load_directory(released, torch.float32, str(released))


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def garbage(path):
    path.write_bytes(b"\xff" * 4000)


def page(path):
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")


@pytest.mark.parametrize("breaks", [cut, empty, garbage, page])
def test_a_broken_shard_is_named(tmp_path, released, breaks):
    breaks(shards(released)[1])
    with pytest.raises(UserError, match=r"released/model-00002-of-0000\d.safetensors: truncated or not a safetensors"):
        made(released, tmp_path)
    assert left(tmp_path) == []


def test_shards_and_their_index_agree(tmp_path, released):
    index = json.loads((released / "model.safetensors.index.json").read_text())
    first, second = shards(released)[:2]
    shutil.copy(first, second)
    with pytest.raises(UserError, match=f"{second.name}: no tensor model.*, which model.safetensors.index.json lists"):
        made(released, tmp_path)
    second.unlink()
    with pytest.raises(UserError, match=second.name):
        made(released, tmp_path)
    (released / "model.safetensors.index.json").write_text(json.dumps({**index, "weight_map": ["a"]}))
    with pytest.raises(UserError, match="index.json: expected JSON with weight_map"):
        load_directory(released, torch.float32, str(released))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"intermediate_size": 48},
            r"mlp.down_proj.weight: expected shape \[32, 48\] from config.json, got \[32, 64\]",
        ),
        ({"vocab_size": 300}, r"embed_tokens.weight: expected shape \[300, 32\] from config.json, got \[259, 32\]"),
        ({"num_hidden_layers": 3}, "9 weights are missing from its files, first model.layers.2."),
        (
            {"num_hidden_layers": 1},
            "the weights have model.layers.1..*, but the model of config.json has no such layer",
        ),
        ({"hidden_size": "wide"}, "config.json: .*hidden_size"),
        ({"tie_word_embeddings": False}, "1 weights are missing from its files, first lm_head.weight"),
    ],
)
def test_weights_of_another_config_are_refused(released, changed, said):
    config = json.loads((released / "config.json").read_text())
    (released / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(UserError, match=said):
        load_directory(released, torch.float32, str(released))


def test_a_config_that_is_not_json_is_named(released):
    (released / "config.json").write_text("{,}")
    with pytest.raises(UserError, match="released/config.json: not JSON"):
        load_directory(released, torch.float32, str(released))


@pytest.fixture
def adapter(tmp_path, base):
    model = get_peft_model(load(base, base).model, LoraConfig(r=2, target_modules=["q_proj"]))
    save_rung(tmp_path / "a", model, pico_tokenizer(), rung="sft/a", method="sft", base=read_rung(base))
    return tmp_path / "a"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.popitem(), "adapter_model.safetensors: no tensor base_model.*, which adapter_config.json"),
        (lambda held: held.update({key: torch.zeros(3, 3) for key in held}), "adapter_model.*: .*size mismatch"),
        (
            lambda held: held.update({"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(1)}),
            "adapter_model.safetensors: has a tensor base_model.model.model.layers.9",
        ),
    ],
)  # fmt: skip
def test_an_adapter_that_is_not_the_one_described_is_refused(adapter, base, change, said):
    held = load_file(adapter / "adapter_model.safetensors")
    change(held)
    save_file(held, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match=said):
        read_adapter(load(base, base).model, adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_broken_file_of_an_adapter_is_named(adapter, base, name):
    (adapter / name).write_text("{")
    with pytest.raises(UserError, match=name):
        read_adapter(load(base, base).model, adapter)


def test_a_save_that_fails_leaves_the_rung_as_it_was(tmp_path):
    with published(tmp_path / "models/a") as folder:
        folder.mkdir()
        (folder / "x").write_text("old")
    with pytest.raises(KeyboardInterrupt), published(tmp_path / "models/a") as folder:
        folder.mkdir()
        (folder / "x").write_text("half")
        raise KeyboardInterrupt
    assert left(tmp_path) == ["a"]
    assert (tmp_path / "models/a/x").read_text() == "old"


def test_config_json_describes_the_weights(tmp_path, base):
    loaded = load(base, base, dtype=torch.float32)
    loaded.model.lm_head.weight = torch.nn.Parameter(2 * loaded.model.lm_head.weight.detach())
    loaded.model.config.vocab_size = 300
    save_rung(tmp_path / "a", loaded.model, loaded.tokenizer, rung="a", method="sft")
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert [config[key] for key in ("tie_word_embeddings", "vocab_size", "dtype")] == [False, 259, "float32"]
    ids = torch.arange(9)[None]
    with torch.no_grad():
        found = load(tmp_path / "a", base, dtype=torch.float32).model(ids).logits
        torch.testing.assert_close(found, 2 * load(base, base, dtype=torch.float32).model(ids).logits)
    loaded.model.lm_head.weight = torch.nn.Parameter(torch.zeros(200, 32))
    with pytest.raises(UserError, match="expected equal sizes of embedding and output layer, got 259 and 200 tokens"):
        save_rung(tmp_path / "b", loaded.model, loaded.tokenizer, rung="b", method="sft")
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob(".*"))
