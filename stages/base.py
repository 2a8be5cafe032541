"""Import a released model as the base: plain weights, and a tokenizer whose turns provably end in a stop token.

    python -m stages.base data/templates models/base metrics/base.json

A GGUF file is de-quantized here, once. The stop token is the one that the chat template writes right after an
assistant's turn, whatever the release's configs say: a model trained or sampled with another one never ends its
answers.
"""

import time
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from ladder.chat.encode import encode, prompt_tokens
from ladder.chat.mask_gate import squeezed
from ladder.chat.rendering import REASONING_TAG, render, trace
from ladder.chat.segments import read_on
from ladder.chat.templates import (
    LONGEST,
    SECONDS,
    check_bos,
    fixed,
    prove_rendering,
    read_template,
    single_template,
    time_limit,
    training_hint,
)
from ladder.data.atomic_write import published, scratch
from ladder.data.download import fetch, require_safetensors
from ladder.data.jsonl import write_json
from ladder.models import gguf
from ladder.models.checkpoint import ledger, save_rung
from ladder.models.compute_dtype import NAMES, chosen
from ladder.models.rung import weightless
from ladder.models.untrusted_folder import check_size
from ladder.models.weights import check_files, read_model, read_object, read_tokenizer
from ladder.pipeline.stage import Config, UserError, run

QUESTION = "What is 2 + 2?"
# Text that some tokenizers do not restore: accents, indentation, blank lines, a space before punctuation.
ANSWER = "Zoë says , naïvely :\n\n    return 4  # 100% ."
TURNS = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
SECONDS_A_MEGABYTE = 0.08  # measured on two cores


Unset = Field(exclude_if=lambda value: value in (None, "template", {}))
"""Field of a template key that rung.json records only when it is set."""


class Params(Config):
    """Which model, and how it is kept."""

    source: str | None
    """`wheel:NAME==VERSION/member.gguf`, `hub:org/name@COMMIT` or a path in data/raw: a .gguf file or a folder.
    Null for a ladder that only asks endpoints and has no weights."""
    sha256: str | None = None
    """sha256 of the file: required for a wheel, null for a directory."""
    chat_template: str | None = None
    """Template to use instead of the model's own: a file of data/templates (`chatml.jinja`) or of TRL's package
    (`trl:qwen3_training`)."""
    chat_template_kwargs: Annotated[dict[str, Any], Unset] = {}
    """Variables of the chat template, as in `enable_thinking: false`; they apply to training and inference."""
    system: Annotated[Literal["template", "merge"], Unset] = "template"
    """`merge` puts a system message into the first user turn, for templates without a system role."""
    clock: Annotated[str | None, Unset] = None
    """Date (2025-01-31), or date and time, for a template that reads the clock. Null refuses that template."""
    bos: Annotated[Literal["template", "add", "none"], Unset] = "template"
    """BOS token of every conversation, where the tokenizer starts a text with one and the template does not.

    `add` writes one before every conversation, `none` leaves it out, `template` refuses the model.
    """
    dtype: Literal["auto", "bfloat16", "float32"] = "bfloat16"
    """dtype of the weights, in which every rung on this base is loaded and trained.

    `auto` is float32 on a CPU or GPU without bfloat16 units, and bfloat16 elsewhere; rung.json records the choice.
    """


def set_template(tokenizer: PreTrainedTokenizerBase, params: Params, templates: Path) -> None:
    """Set the tokenizer's single chat template, with all template settings of params written into it."""
    if params.chat_template is None:
        template = single_template(tokenizer, str(params.source))
    else:
        template = read_template(params.chat_template, templates)
    tokenizer.chat_template = fixed(
        template,
        arguments=params.chat_template_kwargs,
        merge_system=params.system == "merge",
        clock=params.clock,
        bos=params.bos == "add",
    )


def repair(tokenizer: PreTrainedTokenizerBase, source: str, *, bos: bool = True) -> None:
    """Set the stop token that the chat template writes and, where it is missing, the pad token; verify both.

    With `bos`, a template that leaves out the tokenizer's BOS token is refused.
    Errors: UserError when there is no single template, an assistant's turn does not end in one special token, the text
    of a turn does not survive encoding, a conversation begins with two BOS tokens, or `prove_rendering` fails.
    """
    tokenizer.chat_template = single_template(tokenizer, source)
    with time_limit(
        SECONDS, f"{source}: the chat template does not end within {SECONDS:.0f} s on a short conversation"
    ):
        stop = stop_token(tokenizer, source)
    tokenizer.eos_token = stop
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.init_kwargs.pop("local_files_only", None)  # HF_HUB_OFFLINE would otherwise change the saved bytes
    tokenizer.pad_token = tokenizer.pad_token or stop
    prove(tokenizer, source)
    for sentence in prove_rendering(tokenizer, TURNS, source):
        print(f"base: training will reject these rows: {sentence}", flush=True)
    if bos:
        check_bos(tokenizer, TURNS, source)


def stop_token(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """Return the special token that the chat template writes after an assistant's last turn. Errors: UserError."""
    found = trace(tokenizer, TURNS, answer=False, where=source)
    if len(found.text) > LONGEST:
        raise UserError(f"{source}: the chat template writes {len(found.text):,} characters for a short conversation")
    if found.written[1].missing:
        raise UserError(f"{source}: the chat template changes the text of an assistant's turn")
    after = found.text[found.written[1].end :]
    added = [token.content for token in tokenizer.added_tokens_decoder.values()]
    stop = max((token for token in added if after.lstrip().startswith(token)), key=len, default=None)
    if stop is None:
        raise UserError(
            f"{source}: the chat template ends an assistant's turn with {after[:20]!r}; expected a special token, "
            "without which an answer has no end. Set base.chat_template to a template that writes one."
            f"{training_hint(tokenizer)}"
        )
    return stop


def prove(tokenizer: PreTrainedTokenizerBase, source: str) -> None:
    """Check that a turn survives encoding and decoding, and ends in the stop token. Errors: UserError."""
    ids, start = _exchange(tokenizer, source)
    question, answer = str(tokenizer.decode(ids[:start])), str(tokenizer.decode(ids[start:]))
    if squeezed(QUESTION) not in squeezed(question) or squeezed(ANSWER) not in squeezed(answer):
        raise UserError(
            f"{source}: the tokenizer does not reproduce the turns that it encoded; got {question + answer!r}"
        )
    if ids[:2] == [tokenizer.bos_token_id] * 2:
        raise UserError(
            f"{source}: a conversation begins with two {tokenizer.bos_token!r}; expected one. "
            "Correct the chat template."
        )


def _exchange(tokenizer: PreTrainedTokenizerBase, source: str) -> tuple[list[int], int]:
    """Return the token ids of one exchange, and the index where the answer begins.

    A template may begin the reasoning (`<think>`) in the prompt but not in conversations. This one serves inference
    only: its rows are refused in training. Any other template whose prompt is not a prefix of the conversation is
    refused here.
    """
    try:
        ids, mask = encode(tokenizer, TURNS, source)
        return ids, mask.index(1)
    except UserError as refusal:
        prompt = render(tokenizer, TURNS[:1], answer=True).rstrip()
        if not any(prompt.endswith(tag[0]) for tag in REASONING_TAG.finditer(prompt)):
            raise UserError(f"{str(refusal).rstrip('.')}.{training_hint(tokenizer)}") from None
        ids = prompt_tokens(tokenizer, TURNS[:1], source)
        return ids + read_on(tokenizer, ANSWER), len(ids)


def check_plain(directory: Path, source: str) -> None:
    """Refuse quantized weights, and a model that needs its repository's own code, which never runs here."""
    config = read_object(directory / "config.json", f"{source}/config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise UserError(f"{source}: model_type {kind!r} needs the repository's own code, which never runs here")
    if "quantization_config" in config:
        raise UserError(
            f"{source}: quantized weights can be neither trained nor merged; expected bf16. Use a bf16 release."
        )
    settings = directory / "tokenizer_config.json"
    held = read_object(settings, f"{source}/{settings.name}") if settings.is_file() else {}
    code = held.get("auto_map")
    if code and not (directory / "tokenizer.json").is_file():
        raise UserError(
            f"{source}: the tokenizer needs the repository's own code (auto_map), which never runs here; expected "
            "a tokenizer.json. Use a release that has one."
        )


def load_directory(directory: Path, dtype: torch.dtype, source: str) -> PreTrainedModel:
    """Load safetensors weights of an architecture that transformers knows; a repository's code never runs.

    Errors: UserError naming a file that is missing, truncated or does not fit config.json.
    """
    require_safetensors(directory, source)
    check_plain(directory, source)
    check_size(AutoModelForCausalLM, directory, source, check_files(directory, source))
    return read_model(AutoModelForCausalLM, directory, source, dtype=dtype)


def align(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Copy the stop and pad tokens to the model's configs; keep other stop tokens unless a conversation has them."""
    inside = prompt_tokens(tokenizer, TURNS)
    generation = model.generation_config
    known = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    others = [token for token in known if token is not None and token not in inside]
    stop = tokenizer.eos_token_id
    generation.eos_token_id = [stop, *others] if others else stop
    model.config.eos_token_id = stop
    generation.pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id


def write_weightless(params: Params, output: Path, metrics: Path) -> None:
    """Write a base without weights. Errors: UserError for keys that would have no effect."""
    if ignored := sorted(params.model_fields_set - {"source", "dtype"} - {k for k, v in params if v is None}):
        raise UserError(f"base.{ignored[0]}: no effect without a source; remove it")
    made = weightless("base", "base", {"source": None})
    with published(output) as folder:
        write_json(folder / "rung.json", made.described())
    write_json(metrics, {"method": "base", "parent": "", "parameters": 0, "trainable_parameters": 0})


def main(params: Params, templates: Path, output: Path, metrics: Path) -> None:
    """Fetch the model, check the tokenizer before reading any weights, load and save."""
    source = params.source
    if source is None:
        write_weightless(params, output, metrics)
        return
    dtype, started = chosen(params.dtype), time.monotonic()
    with scratch(output) as folder, gguf.header_read_once():
        found = fetch(source, params.sha256, folder)
        packed = found.is_file()
        if packed and not gguf.is_gguf(found):
            raise UserError(f"{source}: expected a .gguf file or a directory with safetensors")
        if not packed and not (found / "config.json").is_file():
            raise UserError(f"{source}: no config.json; expected a complete Hugging Face model")
        if packed:
            tokenizer = gguf.load_tokenizer(found)
        else:
            check_plain(found, source)
            tokenizer = read_tokenizer(found, source)
        set_template(tokenizer, params, templates)
        repair(tokenizer, source, bos=params.bos == "template")
        if packed:
            megabytes = found.stat().st_size / 1e6
            print(f"base: dequantizing {found.name}, about {5 + SECONDS_A_MEGABYTE * megabytes:.0f} s", flush=True)
        model = gguf.load_model(found, dtype) if packed else load_directory(found, dtype, source)
        if len(tokenizer) > model.config.get_text_config().vocab_size:
            raise UserError(f"{source}: expected an embedding for each of the {len(tokenizer)} tokens, got fewer rows")
        align(model, tokenizer)
        made = save_rung(
            output,
            model,
            tokenizer,
            rung="base",
            method="base",
            settings={**params.model_dump(), "dtype": NAMES[dtype]},
        )
    ledger(metrics, made, time.monotonic() - started, {})


if __name__ == "__main__":
    run(main)
