import pytest
import torch

from ladder.models import compute_dtype
from ladder.models.checkpoint import load, load_complete, save_rung
from ladder.training.train import trainer_arguments
from perf.pico import pico_model, pico_tokenizer
from stages import prune_layers


@pytest.fixture(scope="module")
def base32(tmp_path_factory):
    """A base whose rung.json says that it is in float32."""
    directory, tokenizer = tmp_path_factory.mktemp("float32") / "base", pico_tokenizer()
    save_rung(directory, pico_model(tokenizer), tokenizer, rung="base", method="base", settings={"dtype": "float32"})
    return directory


@pytest.mark.parametrize(
    ("flags", "expected", "words"),
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32, "no bfloat16 units"),
        ({"avx2": True, "avx512_f": True}, torch.float32, "no bfloat16 units"),
        ({"avx512_bf16": True}, torch.bfloat16, "has bfloat16 units"),
        ({"amx_bf16": True}, torch.bfloat16, "has bfloat16 units"),
        ({"neon": True, "bf16": True}, torch.bfloat16, "has bfloat16 units"),
        ({"neon": True, "sve_bf16": True}, torch.bfloat16, "has bfloat16 units"),
    ],
)
def test_auto_follows_the_units_of_the_cpu(monkeypatch, capsys, flags, expected, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    assert compute_dtype.chosen("auto") is expected
    said = capsys.readouterr().out
    assert words in said and said.count("\n") == 1 and compute_dtype.NAMES[expected] in said


def test_a_named_dtype_is_taken_silently(capsys):
    assert [compute_dtype.chosen(name) for name in ("bfloat16", "float32")] == [torch.bfloat16, torch.float32]
    assert capsys.readouterr().out == ""


def test_rungs_follow_the_dtype_of_their_base(tmp_path, base, base32):
    assert (load(base, base).model.dtype, load(base32, base32).model.dtype) == (torch.bfloat16, torch.float32)
    for ground, expected in ((base, torch.bfloat16), (base32, torch.float32)):
        output = tmp_path / ground.parent.name / "prune_layers/small"
        prune_layers.main(
            prune_layers.Params(parent="base", drop_layers=[0]), ground, ground, output, output.with_suffix(".json")
        )
        assert load_complete(output, ground).model.dtype is expected


def test_training_under_a_float32_base_has_no_autocast(base, base32):
    for ground, on in ((base, True), (base32, False)):
        with trainer_arguments({}, compute_dtype.compute_dtype(ground)) as arguments:
            assert arguments["bf16"] is on
    with trainer_arguments({"bf16": True}, torch.float32) as arguments:
        assert arguments["bf16"] is True
