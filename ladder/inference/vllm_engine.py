"""A rung's answers by vLLM, where it is installed (extra `gpu`): what ladder/inference/engine.py is asked, asked of
vLLM.

We render and tokenize, so vLLM is given the same token ids; the stop token, the limit and the seed are ours too, and
its tokens become text here. Greedy answers are those made in process but for numeric ties. Draws differ: an engine
draws in its own way, the same for the same seed, prompt and engine.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import Messages, prompt_tokens
from ladder.inference.engine import Completion, until_stop
from ladder.inference.local import Answer, spoken
from ladder.inference.sampling import Sampling
from ladder.models.checkpoint import Rung, check_stands_on, described
from ladder.models.lora_settings import beyond
from ladder.models.weights import check_files, read_config, read_object, tensor_shapes
from ladder.pipeline.stage import UserError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `max_lora_rank` may be."""
SERVED = {"r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
          "lora_dropout", "use_rslora", "init_lora_weights"}  # fmt: skip
"""Of LoraConfig what vLLM reads, or need not. The rest it refuses (DoRA), or reads past (one layer's own alpha)."""


@dataclass(frozen=True)
class Engine:
    """A rung that vLLM holds."""

    llm: Any
    """A vllm.LLM."""
    tokenizer: PreTrainedTokenizerBase
    adapter: Any
    """The LoRARequest of a rung that is an adapter, else None."""
    positions: int
    """Tokens that a prompt and its answer may have together."""


def load(directory: Path, base: Path) -> Engine:
    """Let vLLM load a rung, complete or adapter. It takes the GPU's memory for itself: load no other model beside it.

    Errors: UserError where vLLM is not installed, for a reward model, and for an adapter of another base than the one
    given, on quantized weights, of too high a rank, or with more than plain LoRA has.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UserError("engine vllm: vLLM is not installed here; `make extra-gpu` installs it, or ask in process")
    rung, tokenizer = described(directory, "language_model")
    settings = loading(directory, base, rung)

    from vllm import LLM
    from vllm.lora.request import LoRARequest

    adapter = LoRARequest(rung.rung, 1, str(directory)) if rung.kind == "adapter" else None
    return Engine(LLM(**settings), tokenizer, adapter, settings["max_model_len"])


def answer(engine: Engine, conversations: list[Messages], sampling: Sampling, *, progress: str) -> list[Answer]:
    """Let a rung answer each conversation; results stand in the order given.

    Errors: UserError as `completions` does.
    """
    prompts = [prompt_tokens(engine.tokenizer, messages) for messages in conversations]
    return spoken(engine.tokenizer, completions(engine, prompts, sampling, progress=progress), prompts)


def completions(
    engine: Engine, prompts: list[list[int]], sampling: Sampling, *, progress: str = ""
) -> list[Completion]:
    """Continue each prompt [prompts][length], as ladder.inference.engine's `decode` does.

    Errors: UserError for a prompt that leaves no position for an answer.
    """
    from vllm import SamplingParams

    for index, prompt in enumerate(prompts):
        if len(prompt) >= engine.positions:
            raise UserError(f"prompt {index}: {len(prompt)} tokens, expected fewer than the model's {engine.positions}")
    stop = engine.tokenizer.eos_token_id
    found = engine.llm.generate(
        [{"prompt_token_ids": prompt} for prompt in prompts],
        sampling_params=[SamplingParams(**choosing(sampling, stop, index)) for index in range(len(prompts))],
        lora_request=engine.adapter,
        use_tqdm=bool(progress),
    )
    return [until_stop(list(one.outputs[0].token_ids), [stop]) for one in found]


def loading(directory: Path, base: Path, rung: Rung) -> dict[str, Any]:
    """Arguments of vllm.LLM. Errors: UserError as `load` says of adapters."""
    adapter = rung.kind == "adapter"
    if adapter:
        check_stands_on(directory, rung, base)
        if rung.quantization is not None:
            raise UserError(f"{directory}: engine vllm: it stands on quantized weights; merge it, or ask in process")
    model = base if adapter else directory
    check_files(model)
    positions = read_config(model).get_text_config().max_position_embeddings
    settings = {"model": str(model), "dtype": "bfloat16", "seed": 0, "max_model_len": positions}
    if adapter:
        other = beyond(directory, SERVED)
        if other:
            raise UserError(f"{directory}: engine vllm: vLLM knows no {other}; merge it, or ask in process")
        if module := outside_layers(directory):
            raise UserError(
                f"{directory}: engine vllm: the adapter changes {module}, and vLLM reads adapters of decoder layers; "
                "merge it, or ask in process"
            )
        rank = read_object(directory / "adapter_config.json")["r"]
        if rank > RANKS[-1]:
            raise UserError(f"{directory}: an adapter of rank {rank}, vLLM takes at most {RANKS[-1]}")
        settings |= {"enable_lora": True, "max_lora_rank": next(most for most in RANKS if most >= rank)}
    return settings


def outside_layers(directory: Path) -> str | None:
    """A module outside the numbered decoder layers (embedding, output layer, final norm) that an adapter changes."""
    for name in sorted(tensor_shapes(directory / "adapter_model.safetensors")):
        module = name.removeprefix("base_model.model.").partition(".lora_")[0]
        if not re.search(r"\.\d+\.", module):
            return module
    return None


def choosing(sampling: Sampling, stop: int, index: int) -> dict[str, Any]:
    """Arguments of vllm.SamplingParams for the prompt at `index`.

    An answer ends at our stop token alone: `ignore_eos` shuts out what generation_config.json may name beside it.
    """
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_new_tokens,
        "seed": sampling.seed + index,
        "stop_token_ids": [stop],
        "ignore_eos": True,
        "detokenize": False,
    }
