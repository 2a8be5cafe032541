import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from conftest import record_files
from ladder.models.checkpoint import (
    check_parent,
    check_same_tokenizer,
    load,
    load_complete,
    load_reward,
    read_rung,
    save_rung,
)
from ladder.models.rung import read_description
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer


@pytest.fixture
def adapter(tmp_path, base):
    torch.manual_seed(1)
    loaded = load(base, base)
    config = LoraConfig(r=2, target_modules=["v_proj", "q_proj", "o_proj"], init_lora_weights=False)
    model = get_peft_model(loaded.model, config)
    ground = read_rung(base)
    save_rung(
        tmp_path / "chat", model, loaded.tokenizer, rung="sft/chat", method="sft", parents={"base": ground}, base=ground
    )
    return tmp_path / "chat"


def test_an_adapter_holds_no_copy_of_the_base(adapter, base):
    rung = read_rung(adapter)
    assert (rung.kind, rung.base) == ("adapter", read_rung(base).identity)
    tokenizer = {"chat_template.jinja", "tokenizer.json", "tokenizer_config.json"}
    assert set(rung.files) - tokenizer == {"adapter_config.json", "adapter_model.safetensors"}
    # float32, r = 2: q and o 2 x 64, v 2 x 48, in two layers; and the header
    assert rung.files["adapter_model.safetensors"].bytes < 4 * 2 * 2 * (64 + 64 + 48) + 2000


def test_an_adapter_and_the_model_made_of_it_agree(adapter, base):
    ids = torch.arange(20)[None] + 10
    with torch.no_grad():
        apart = load(adapter, base, dtype=torch.float32).model(ids).logits
        whole = load_complete(adapter, base, dtype=torch.float32).model(ids).logits
        alone = load(base, base, dtype=torch.float32).model(ids).logits
    torch.testing.assert_close(apart, whole, atol=1e-4, rtol=1e-4)
    assert (apart - alone).abs().max() > 0.1


def test_a_trainable_adapter_takes_gradients_in_float32(adapter, base):
    model = load(adapter, base, trainable=True).model
    assert isinstance(model, PeftModel)
    trained = {weight.dtype for weight in model.parameters() if weight.requires_grad}
    assert trained == {torch.float32}


def test_an_adapter_on_another_base_is_refused(adapter, tmp_path):
    tokenizer = pico_tokenizer()
    save_rung(tmp_path / "base", pico_model(tokenizer, seed=7), tokenizer, rung="base", method="base")
    with pytest.raises(
        UserError, match="the adapter was trained on a different base than .*. `dvc repro` trains it again"
    ):
        load(adapter, tmp_path / "base")


def test_a_lost_or_cut_file_is_named(adapter, base):
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(
        UserError,
        match=r"adapter_model.safetensors: differs from rung.json; expected \d+ bytes, got \d+. `dvc",
    ):
        load(adapter, base)
    shutil.rmtree(adapter)
    with pytest.raises(UserError, match="chat: not a rung"):
        load(adapter, base)


def test_a_changed_chat_template_is_refused(adapter, base):
    template = adapter / "chat_template.jinja"
    template.write_text(template.read_text().replace("assistant", "Assistant"))
    with pytest.raises(UserError, match="chat_template.jinja: corrupt; expected sha256"):
        load(adapter, base)
    record_files(adapter)
    with pytest.raises(UserError, match="the tokenizer or chat template differs from the hashes in rung.json"):
        load(adapter, base)


def test_identity_follows_every_byte(adapter):
    before = read_rung(adapter)
    described = json.loads((adapter / "rung.json").read_text())
    described["files"]["tokenizer.json"]["sha256"] = "0" * 64
    (adapter / "rung.json").write_text(json.dumps(described))
    assert read_description(adapter).identity != before.identity
    with pytest.raises(UserError, match="pairs: made with another version of sft/chat"):
        check_parent("pairs", read_description(adapter), before.identity)


def test_a_rung_says_what_it_ends_in(adapter, base):
    assert read_rung(base).head == read_rung(adapter).head == "language_model"
    with pytest.raises(UserError, match="base: expected a reward model, .*, got a language model"):
        load_reward(base, base)


def test_other_tokens_or_templates_are_refused(base, tmp_path):
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("\n", " ")
    save_rung(tmp_path / "a", pico_model(tokenizer), tokenizer, rung="a", method="base")
    with pytest.raises(UserError, match="base and a: expected the same chat template"):
        check_same_tokenizer(read_rung(base), read_rung(tmp_path / "a"))
    tokenizer.add_tokens(["<extra>"])
    save_rung(tmp_path / "b", pico_model(tokenizer), tokenizer, rung="b", method="base")
    with pytest.raises(UserError, match="base and b: expected the same tokenizer"):
        check_same_tokenizer(read_rung(base), read_rung(tmp_path / "b"))


def test_a_model_that_is_not_a_number_is_never_saved(base, tmp_path):
    loaded = load(base, base)
    loaded.model.model.norm.weight.data[3] = float("nan")
    with pytest.raises(UserError, match="not saved: model.norm.weight has NaN or infinite values"):
        save_rung(tmp_path / "bad", loaded.model, loaded.tokenizer, rung="bad", method="sft")
    assert not (tmp_path / "bad").exists()
