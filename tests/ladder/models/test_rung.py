"""A rung whose bytes differ from rung.json is rejected by every way of loading it."""

import hashlib
import json
import os
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model

from ladder.filters.embedding import embed
from ladder.filters.model_scores import token_length
from ladder.inference import vllm_engine
from ladder.inference.answer_cache import RungEngine
from ladder.judges.local_judge import RungReplies
from ladder.models.checkpoint import described, load, load_complete, load_reward, read_rung, save_rung
from ladder.models.heads import scoring
from ladder.models.merge_preflight import plan
from ladder.models.rung import FILES_RECORD, describe_file
from ladder.pipeline.stage import UserError
from ladder.training.model_setup import climb
from torch_helpers import pico_encoder

HALVES = {"merge_method": "linear", "models": [{"model": "base", "parameters": {"weight": 0.5}},
                                               {"model": "sft/chat", "parameters": {"weight": 0.5}}]}  # fmt: skip
LANGUAGE = {
    "load": lambda rung, base: load(rung, base),
    "load to train": lambda rung, base: load(rung, base, trainable=True),
    "load complete": lambda rung, base: load_complete(rung, base),
    "tokenizer alone": lambda rung, base: described(rung, "language_model"),
    "train a new adapter": lambda rung, base: climb(rung, base, {"r": 2}, seed=0),
    "train all weights": lambda rung, base: climb(rung, base, None, seed=0),
    "continue an adapter": lambda rung, base: climb(rung, base, "continue", seed=0),
    "generate": RungEngine,
    "judge": RungReplies,
    "merge": lambda rung, base: plan(HALVES, [rung], base),
}


def flip(path, bit=0):
    """Flip one bit in the middle of a file; size and modification time stay the same."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1 << bit
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.fixture
def copy(tmp_path, base):
    return shutil.copytree(base, tmp_path / "base")


@pytest.fixture
def adapter(tmp_path, base):
    loaded = load(base, base)
    model = get_peft_model(loaded.model, LoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False))
    ground, directory = read_rung(base), tmp_path / "chat"
    save_rung(directory, model, loaded.tokenizer, rung="sft/chat", method="sft", parents={"base": ground}, base=ground)
    return directory


@pytest.mark.parametrize("way", LANGUAGE)
def test_one_flipped_bit_is_refused_however_a_rung_is_loaded(adapter, base, way):
    content = (adapter / "adapter_model.safetensors").read_bytes()
    LANGUAGE[way](adapter, base)
    flip(adapter / "adapter_model.safetensors")
    with pytest.raises(UserError) as refused:
        LANGUAGE[way](adapter, base)
    found = hashlib.sha256((adapter / "adapter_model.safetensors").read_bytes()).hexdigest()
    expected = hashlib.sha256(content).hexdigest()
    assert f"adapter_model.safetensors: corrupt; expected sha256 {expected} from rung.json, got {found}" in str(
        refused.value
    )


@pytest.mark.parametrize("way", sorted(LANGUAGE.keys() - {"tokenizer alone", "generate", "judge"}))
def test_one_flipped_bit_in_the_base_of_an_adapter_is_refused(adapter, copy, way):
    flip(copy / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: corrupt; expected sha256"):
        LANGUAGE[way](adapter, copy)


def test_every_file_of_a_rung_is_verified(copy):
    for name in json.loads((copy / "rung.json").read_text())["files"]:
        kept = (copy / name).read_bytes()
        flip(copy / name, bit=7)
        with pytest.raises(UserError, match=f"{name}: corrupt; expected sha256"):
            load(copy, copy)
        (copy / name).write_bytes(kept)
    load(copy, copy)


def test_a_flipped_bit_in_a_reward_model_is_refused(tmp_path, base):
    loaded = load(base, base, dtype=torch.float32)
    model = scoring(loaded.model, loaded.tokenizer)
    save_rung(tmp_path / "judge", model, loaded.tokenizer, rung="reward/judge", method="reward")
    load_reward(tmp_path / "judge", base)
    flip(tmp_path / "judge" / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: corrupt"):
        load_reward(tmp_path / "judge", base)


def test_a_flipped_bit_is_refused_before_vllm_starts(adapter, base, monkeypatch):
    monkeypatch.setattr(vllm_engine.importlib.util, "find_spec", lambda name: object())  # as if it were installed
    flip(adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors: corrupt"):
        vllm_engine.load(adapter, base)


def test_a_flipped_bit_in_a_tokenizer_that_counts_tokens_is_refused(copy):
    flip(copy / "tokenizer.json")
    with pytest.raises(UserError, match=r"tokenizer\.json: corrupt"):
        token_length([], min=0, max=1, base=copy)


def test_a_flipped_bit_in_a_sentence_encoder_is_refused(tmp_path):
    encoder = pico_encoder(tmp_path / "encoder", ["w1", "w2"], layers=1)
    files = {
        path.relative_to(encoder).as_posix(): describe_file(path).model_dump()
        for path in encoder.rglob("*")
        if path.is_file()
    }
    (encoder / FILES_RECORD).write_text(json.dumps(files))
    embed(["w1"], encoder)
    other = shutil.copytree(encoder, tmp_path / "other")
    flip(other / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors: corrupt; expected sha256 \w+ from files\.json"):
        embed(["w1"], other)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "chat_template.jinja.py", "nested/config.json"])
def test_a_file_that_rung_json_does_not_list_is_refused(copy, name):
    """An index would make the loader read other weights."""
    (copy / name).parent.mkdir(exist_ok=True)
    (copy / name).write_text("{}")
    with pytest.raises(UserError, match=f"{name}: not listed in rung.json; expected only the files listed there"):
        load(copy, copy)


def test_notes_beside_a_rung_are_no_part_of_it(copy):
    (copy / "README.md").write_text("A model card.")
    (copy / ".gitignore").write_text("*")
    load(copy, copy)


def test_names_in_rung_json_stay_in_its_folder(copy):
    record = json.loads((copy / "rung.json").read_text())
    record["files"]["../outside"] = {"sha256": "0" * 64, "bytes": 0}
    (copy / "rung.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"rung\.json: invalid rung.json"):
        load(copy, copy)
