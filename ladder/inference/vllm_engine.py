"""Generation with vLLM (optional extra `gpu`), with the interface of ladder/inference/engines.py.

Prompts are rendered and tokenized here, so vLLM gets the same token ids. Stop token, length limit, seed and
detokenization are also ours. Greedy answers equal the in-process ones except for numeric ties. Sampled answers differ:
vLLM has its own random draws, which are deterministic for a given seed, prompt and engine.
"""

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ladder.inference.local import TokenEngine
from ladder.inference.snapshot import Snapshot
from ladder.inference.types import Completion, Sampling, until_stop
from ladder.models.checkpoint import Rung, check_base, described
from ladder.models.compute_dtype import NAMES, compute_dtype
from ladder.models.lora_settings import beyond
from ladder.models.weights import check_files, read_config, read_object, tensor_shapes
from ladder.pipeline.stage import UserError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Allowed values of vLLM's `max_lora_rank`."""
SERVED = {"r", "lora_alpha", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
          "lora_dropout", "use_rslora", "init_lora_weights"}  # fmt: skip
"""LoraConfig fields that vLLM reads or can ignore. It refuses others (DoRA) or ignores them (alpha of one layer)."""


@dataclass(frozen=True)
class VllmEngine(TokenEngine):
    """A rung loaded in vLLM."""

    llm: Any
    """vllm.LLM."""
    tokenizer: PreTrainedTokenizerBase
    adapter: Any
    """LoRARequest if the rung is an adapter, else None."""
    positions: int
    """Maximum length of prompt plus answer, in tokens."""

    def complete(
        self,
        prompts: list[list[int]],
        sampling: Sampling,
        *,
        first: int = 0,
        snapshot: Snapshot | None = None,
        progress: str = "",
    ) -> list[Completion]:
        """Complete each prompt; vLLM has no state to resume, so `snapshot` is not used.

        Errors: UserError for a prompt that leaves no position for an answer.
        """
        from vllm import SamplingParams

        for index, prompt in enumerate(prompts, start=first):
            if len(prompt) >= self.positions:
                raise UserError(
                    f"prompt {index}: {len(prompt)} tokens, expected fewer than the model's {self.positions}"
                )
        stop = self.tokenizer.eos_token_id
        found = self.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts],
            sampling_params=[SamplingParams(**choosing(sampling, stop, first + n)) for n in range(len(prompts))],
            lora_request=self.adapter,
            use_tqdm=bool(progress),
        )
        return [until_stop(list(one.outputs[0].token_ids), [stop]) for one in found]


def load(directory: Path, base: Path) -> VllmEngine:
    """Load a rung into vLLM, complete or adapter. vLLM reserves the GPU's memory: load no other model beside it.

    Errors: UserError if vLLM is not installed; for a reward model; for an adapter of another base, on quantized
    weights, of too high a rank, or with features beyond plain LoRA.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UserError("engine vllm: vLLM is not installed. `make extra-gpu` installs it; or use the ladder's engine.")
    rung, tokenizer = described(directory, "language_model")
    settings = loading(directory, base, rung)

    from vllm import LLM
    from vllm.lora.request import LoRARequest

    adapter = LoRARequest(rung.rung, 1, str(directory)) if rung.kind == "adapter" else None
    return VllmEngine(LLM(**settings), tokenizer, adapter, settings["max_model_len"])


def loading(directory: Path, base: Path, rung: Rung) -> dict[str, Any]:
    """Build the arguments of vllm.LLM. Errors: UserError for an adapter that `load` refuses."""
    adapter = rung.kind == "adapter"
    if adapter:
        check_base(directory, rung, base)
        if rung.quantization is not None:
            raise UserError(f"{directory}: engine vllm: its base is quantized. Merge it, or use the ladder's engine.")
    model = base if adapter else directory
    check_files(model)
    positions = read_config(model).get_text_config().max_position_embeddings
    settings = {"model": str(model), "dtype": NAMES[compute_dtype(base)], "seed": 0, "max_model_len": positions}
    if adapter:
        other = beyond(directory, SERVED)
        if other:
            raise UserError(
                f"{directory}: engine vllm: vLLM does not support {other}. Merge it, or use the ladder's engine."
            )
        if module := outside_layers(directory):
            raise UserError(
                f"{directory}: engine vllm: the adapter changes {module}, but vLLM supports only adapters of decoder "
                "layers. Merge it, or use the ladder's engine."
            )
        rank = read_object(directory / "adapter_config.json")["r"]
        if rank > RANKS[-1]:
            raise UserError(f"{directory}: expected an adapter of rank {RANKS[-1]} or less for vLLM, got {rank}")
        settings |= {"enable_lora": True, "max_lora_rank": next(most for most in RANKS if most >= rank)}
    return settings


def outside_layers(directory: Path) -> str | None:
    """Find an adapted module outside the numbered decoder layers (embedding, output layer, final norm), else None."""
    for name in sorted(tensor_shapes(directory / "adapter_model.safetensors")):
        module = name.removeprefix("base_model.model.").partition(".lora_")[0]
        if not re.search(r"\.\d+\.", module):
            return module
    return None


def choosing(sampling: Sampling, stop: int, index: int) -> dict[str, Any]:
    """Build the arguments of vllm.SamplingParams for the prompt at `index`.

    Only our stop token ends an answer: `ignore_eos` disables other ones in generation_config.json.
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
