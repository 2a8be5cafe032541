"""An export is the rung: plain transformers and peft give its tokens and logits."""

import json

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from conftest import record_files
from ladder.__main__ import main
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError
from ladder.ship.export import export, sentence
from shipped import ALPHA, RANK

IDS = torch.tensor([[5, 6, 7, 40, 41, 2, 90, 100, 5, 6, 7]])
QUESTION = [{"role": "user", "content": "Say ä."}]


def logits(model):
    with torch.no_grad():
        return model.eval()(IDS).logits


def plain(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


@pytest.mark.parametrize("name", ["words", "rounded"])
def test_a_merged_rung_in_plain_transformers_has_the_tokens_and_logits_of_the_rung(repository, tmp_path, name):
    made = export(f"sft/{name}", tmp_path / "out")
    rung = load(repository / "models/sft" / name, repository / "models/base")
    model, tokenizer = plain(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert (logits(rung.model) - logits(plain(repository / "models/base"))).abs().max() > 0.5
    torch.testing.assert_close(logits(model), logits(rung.model), atol=1e-4, rtol=1e-4)
    ids = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    generated = model.generate(**ids, max_new_tokens=24, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    sampling = Sampling(max_new_tokens=24)
    expected = engine_of(rung).complete([ids["input_ids"][0].tolist()], sampling)[0]
    assert generated == expected.tokens + [tokenizer.eos_token_id] * expected.finished
    found = made.agreement
    assert found["equal_tokens"] == found["tokens"] > 0 and found["equal_prompts"] == found["prompts"] == 3
    assert found["largest_logit_difference"] < 1e-4
    assert "quantization_config" not in json.loads((tmp_path / "out/config.json").read_text())
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_merged_weights_are_the_base_plus_the_scaled_product_of_the_adapter(repository, tmp_path):
    export("sft/words", tmp_path / "out", verify=False)
    base, whole = (load_file(folder / "model.safetensors") for folder in (repository / "models/base", tmp_path / "out"))
    adapter = load_file(repository / "models/sft/words/adapter_model.safetensors")
    assert base.keys() == whole.keys()
    for name, weight in whole.items():
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        update = torch.zeros(())
        if f"{layer}.lora_A.weight" in adapter:
            update = ALPHA / RANK * adapter[f"{layer}.lora_B.weight"] @ adapter[f"{layer}.lora_A.weight"]
        torch.testing.assert_close(weight, base[name] + update, atol=1e-6, rtol=0)


def test_a_merged_qlora_rung_is_not_the_sum_on_unrounded_weights(repository, tmp_path):
    export("sft/rounded", tmp_path / "out", verify=False)
    unrounded = PeftModel.from_pretrained(plain(repository / "models/base"), repository / "models/sft/rounded")
    assert (logits(plain(tmp_path / "out")) - logits(unrounded)).abs().max() > 0.05


def test_a_complete_rung_is_copied(repository, tmp_path):
    made = export("base", tmp_path / "out")
    for path in (repository / "models/base").iterdir():
        if path.name != "rung.json":
            assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()
    assert made.agreement is None and not (tmp_path / "out/rung.json").exists()


def test_the_stop_token_is_written_where_generation_config_has_another(repository, tmp_path, monkeypatch):
    folder = tmp_path / "models/base"
    folder.parent.mkdir()
    folder.symlink_to(repository / "models/base")
    other = tmp_path / "models/other"
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    generation = json.loads((other / "generation_config.json").read_text())
    (other / "generation_config.json").write_text(json.dumps({**generation, "eos_token_id": 0}))
    record_files(other)
    monkeypatch.chdir(tmp_path)
    export("models/other", tmp_path / "out")
    assert json.loads((tmp_path / "out/generation_config.json").read_text())["eos_token_id"] == 2


def test_an_adapter_in_plain_peft_has_the_logits_of_the_rung(repository, tmp_path):
    made = export("sft/words", tmp_path / "out", "adapter")
    config = json.loads((tmp_path / "out/adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/pico", "0123abc")
    adapted = PeftModel.from_pretrained(plain(repository / "models/base"), tmp_path / "out")
    rung = load(repository / "models/sft/words", repository / "models/base")
    torch.testing.assert_close(logits(adapted), logits(rung.model), atol=1e-5, rtol=1e-5)  # another attention kernel
    base = json.loads((repository / "models/sft/words/rung.json").read_text())["base"]
    assert made.base == {
        "identity": base, "source": "hub:org/pico@0123abc", "address": "org/pico", "revision": "0123abc"
    }  # fmt: skip
    assert base in (tmp_path / "out/README.md").read_text()
    named = export("sft/words", tmp_path / "named", "adapter", base_model="./copy")
    assert (named.base["address"], named.base["revision"]) == ("./copy", None)


def test_the_record_lists_every_file_with_its_hash(repository, tmp_path):
    made = export("sft/words", tmp_path / "out", verify=False)
    record = json.loads((tmp_path / "out/export.json").read_text())
    assert (
        record["files"].keys() | {"export.json"} == made.files.keys() == {p.name for p in (tmp_path / "out").iterdir()}
    )
    sizes = {name: one["bytes"] for name, one in record["files"].items()}
    assert sizes == {name: (tmp_path / "out" / name).stat().st_size for name in sizes}


def test_only_an_earlier_export_is_replaced(repository, tmp_path):
    export("base", tmp_path / "out")
    with pytest.raises(UserError, match="--to: .*out has content"):
        export("sft/words", tmp_path / "out", verify=False)
    export("sft/words", tmp_path / "out", "adapter", force=True)
    assert not (tmp_path / "out/model.safetensors").exists()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(UserError, match="--force: .*notes.txt is not of an earlier export"):
        export("sft/words", tmp_path / "out", force=True)
    assert (tmp_path / "out/notes.txt").read_text() == "mine" and (tmp_path / "out/export.json").is_file()


def test_a_failed_export_leaves_nothing(pico_rungs, tmp_path, monkeypatch):
    (tmp_path / "models/base").mkdir(parents=True)
    for path in (pico_rungs / "models/base").iterdir():
        (tmp_path / "models/base" / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "models/base/config.json").read_text())
    (tmp_path / "models/base/config.json").write_text(json.dumps({**config, "hidden_act": "gelu"}))
    record_files(tmp_path / "models/base")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="hidden_act: expected silu, got gelu"):
        export("base", tmp_path / "out", "gguf")
    assert [path.name for path in tmp_path.iterdir() if path.name != "work"] == ["models"]


@pytest.mark.parametrize(
    ("name", "form", "how", "said"),
    [
        ("sft/wrods", "merged", {}, "no rung of this name \\(did you mean 'sft/words'\\?\\)"),
        ("base", "adapter", {}, "a complete model, so it has no adapter; expected merged or gguf"),
        ("sft/words", "merged", {"base_model": "org/x"}, "--base-model: names the base of an adapter"),
        ("sft/words", "adapter", {"base_model": "org/x@"}, "--base-model: expected ORG/NAME"),
    ],
)
def test_what_cannot_be_exported_is_refused(repository, tmp_path, name, form, how, said):
    with pytest.raises(UserError, match=said):
        export(name, tmp_path / "out", form, **how)
    assert not (tmp_path / "out").exists()


def test_the_command_reports_files_and_comparison(repository, tmp_path, capsys):
    main(["export", "sft/words", "--to", str(tmp_path / "out"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["form"] == "merged" and document["rung"]["name"] == "sft/words"
    assert document["files"]["model.safetensors"] == (tmp_path / "out/model.safetensors").stat().st_size
    with pytest.raises(SystemExit) as end:
        main(["export", "sft/words", "--to", str(tmp_path / "out")])
    assert str(end.value.code).startswith("ladder: --to: ")


def test_a_difference_is_reported():
    found = {"prompts": 3, "equal_prompts": 3, "tokens": 96, "equal_tokens": 90, "largest_logit_difference": 0.25}
    assert sentence(found) == (
        "differs: 90 of 96 greedy tokens equal the rung's on 3 prompts; largest difference of a logit 0.25"
    )
