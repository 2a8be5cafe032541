"""In-process generation on one CPU or one CUDA GPU: continuous batching, or padded batches.

`model.generate` pads: its batch runs until the longest answer ends. The decoder (ladder/inference/decoder.py) fills the
slot of an answer that has ended with the next prompt. Model families that it does not support use padded batches
(ladder/inference/hf_generate.py).
"""

import sys
from collections.abc import Collection
from functools import cache
from typing import Any

import torch
from tqdm import tqdm
from transformers import PreTrainedConfig

from ladder.inference.decoder import Decoder
from ladder.inference.hf_generate import generate_padded
from ladder.inference.kv_cache import FAMILIES, fits_slots, slot_attention
from ladder.inference.snapshot import Snapshot
from ladder.inference.types import Completion, LocalName, Sampling, until_stop
from ladder.models.folded_adapters import folded_adapters
from ladder.models.oom import within_memory
from ladder.pipeline.stage import UserError


def decode(
    model: Any,
    prompts: list[list[int]],
    sampling: Sampling,
    *,
    stop: Collection[int],
    batch: int | None = None,
    first: int = 0,
    snapshot: Snapshot | None = None,
    progress: str = "",
    engine: LocalName = "auto",
) -> list[Completion]:
    """Complete every prompt (token ids); the completions are in the order of the prompts.

    `model` is a causal language model of transformers, or a PeftModel around one with its active adapter. A completion
    ends at a token of `stop`, at `max_new_tokens`, or at the model's last position. `batch` is the number of slots; if
    None, it is chosen by model and memory, and halved when memory runs out. `first` is the offset of these prompts
    among all prompts of the seed. `snapshot` saves the state periodically and resumes it after a kill. `progress`
    labels a progress bar on stderr. With `engine` auto, model families that do not support slots use padded
    `model.generate`, and a line on stdout says so once per family; with padded, all do.

    Errors: UserError for a prompt that is empty or longer than the model's positions, for prompt-learning adapters, for
    engine decoder with a model family that does not support slots, and if memory does not hold one slot, or the slots
    of `batch`.
    """
    if hasattr(model, "get_base_model"):  # a PeftModel: the adapter's layers are inside its base model
        if model.active_peft_config.is_prompt_learning:
            raise UserError("decode: expected an adapter on layers (LoRA); prompt-learning adapters are not supported")
        model = model.get_base_model()
    positions = model.config.max_position_embeddings
    for index, prompt in enumerate(prompts):
        if not 1 <= len(prompt) <= positions:
            raise UserError(
                f"prompt {index}: expected 1 to {positions} tokens (the model's positions), got {len(prompt)}"
            )
    if not prompts:
        return []
    with tqdm(total=len(prompts), desc=progress, unit="prompt", file=sys.stderr, disable=not progress) as bar:
        if engine == "padded" or not _supported(model.config, engine):
            return generate_padded(model, prompts, sampling, stop, batch, bar, first=first, snapshot=snapshot)
        decoder = Decoder(model, prompts, sampling, stop, first)
        with torch.inference_mode(), slot_attention(model), folded_adapters(model):
            within_memory(lambda slots: decoder.run(slots, bar, snapshot), decoder.slots_that_fit, batch, model.device)
        return [until_stop(answer, decoder.stop) for answer in decoder.answers]


def _supported(config: PreTrainedConfig, engine: LocalName) -> bool:
    """Whether the decoder supports the model family. Errors: UserError if it does not and `engine` is decoder."""
    if fits_slots(config):
        return True
    if engine == "decoder":
        raise UserError(
            f"engine: decoder: does not support this {config.model_type} model; expected a model of "
            f"{', '.join(sorted(FAMILIES))} with full attention. Set engine: auto or padded."
        )
    _report_fallback(config.model_type)
    return False


@cache
def _report_fallback(family: str) -> None:
    """Say once per process and family that the decoder is not used."""
    print(f"engine: the decoder does not support this {family} model: using padded model.generate", flush=True)
