"""Set up TRL's vLLM engine for the ladder: sample and stop as the ladder's engine does, and receive merged weights."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor

from ladder.inference.sampling import scramble


def take_engine(trainer: Any) -> None:
    """Make TRL's vLLM engine stop and sample like the ladder's, and merge adapters without changing base weights.

    By default TRL would stop at every token that generation_config.json names, seed a colocated engine by the process
    only, and merge the adapter in place.
    """
    engine, model = trainer.vllm_generation, trainer.model
    stop = trainer.processing_class.eos_token_id
    engine.generation_kwargs = {"stop_token_ids": [stop], "ignore_eos": True, "seed": 0}
    if engine.mode == "colocate":
        engine.llm.generate = one_seed_each(engine.llm.generate)
    if isinstance(model, PeftModel):
        engine._iter_named_params = lambda: whole_weights(model)


def one_seed_each(generate: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap vllm.LLM.generate to seed each prompt differently: with one seed, equal prompts would get equal answers."""

    def seeded(prompts: list[Any], *, sampling_params: Any, **rest: Any) -> Any:
        each = [copy.copy(sampling_params) for _ in prompts]
        for index, chosen in enumerate(each):
            chosen.seed = scramble(sampling_params.seed ^ index)
        return generate(prompts, sampling_params=each, **rest)

    return seeded


def whole_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Weights of a PeftModel under the names of its base model, with the active adapter merged, one layer at a time.

    The model's own weights do not change. TRL merges in place and unmerges, which changes them: in bfloat16
    (W + BA) - BA is not W, and the adapter would train on another base than the one it is saved for.
    """
    layers = {name: part for name, part in model.get_base_model().named_modules() if isinstance(part, LoraLayer)}
    for name, weight in model.get_base_model().named_parameters():
        if model.prefix in name or "original_module" in name:
            continue
        layer = layers.get(name.removesuffix(".base_layer.weight"))
        value = weight.data if layer is None else _merged(layer, weight)
        yield name.replace(".base_layer", "").replace("modules_to_save.default.", ""), value


def _merged(layer: Any, weight: torch.nn.Parameter) -> Tensor:
    own = weight.data
    weight.data = own.clone()
    layer.merge()
    whole, weight.data = weight.data, own
    layer.merged_adapters.clear()
    return whole
