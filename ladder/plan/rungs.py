"""Configurations, weights and adapters of the graph's rungs, including those that are yet to be made."""

from pathlib import Path
from typing import Any

from ladder.pipeline.errors import UserError
from ladder.plan.adapters import Adapter, adapter
from ladder.plan.expand import Stage
from ladder.plan.memory import Method
from ladder.plan.sources import UnknownConfigError, read_config
from ladder.plan.weights import Weight, completed, text_config, weights


class Rungs:
    """Rungs by their path `models/NAME`. makers: the stage that makes each output."""

    def __init__(self, makers: dict[str, Stage]) -> None:
        self._makers = makers
        self._models: dict[str, tuple[dict[str, Any], list[Weight]]] = {}

    def model(self, path: str, depth: int = 0) -> tuple[dict[str, Any], list[Weight]]:
        """Return (configuration, weights) of `models/NAME`, there or yet to be made.

        Errors: UserError if no stage makes it; UnknownConfigError if its configuration is unknown before a run.
        """
        if path not in self._models:
            config = self._config(path, depth)
            self._models[path] = (config, weights(config))
        return self._models[path]

    def _config(self, path: str, depth: int) -> dict[str, Any]:
        if Path(path, "config.json").is_file():
            return read_config(path)[0]
        maker = self._makers.get(path)
        if maker is None or depth > 50:
            raise UserError(f"{path}: no stage makes it; expected a rung. See `ladder check`")
        values = maker.values
        if isinstance(values.get("source"), str):
            return read_config(values["source"])[0]
        above = values.get("parent") or next(iter(values.get("parents") or ()), None)
        if above is None:
            raise UnknownConfigError(f"{path}: its configuration is known after {maker.name} has run")
        config = self.model(f"models/{above}", depth + 1)[0]
        dropped = values.get("drop_layers")
        return _without_layers(config, len(dropped)) if isinstance(dropped, list) else config

    def adapter_of(self, stage: Stage, depth: int = 0) -> tuple[Method, Adapter | None, int | None]:
        """Return (method, adapter, rank) of a training stage; `continue` is the parent's."""
        values = stage.values
        lora, quantized = values.get("lora"), bool(values.get("quantization"))
        if lora == "continue":
            parent = self._makers.get(f"models/{values.get('parent')}")
            if parent is None or depth > 50 or not isinstance(parent.values.get("trainer"), dict):
                raise UserError(f"{stage.name}: lora: continue: the parent has no adapter that params.yaml describes")
            method, found, rank = self.adapter_of(parent, depth + 1)
            return ("qlora" if quantized else method), found, rank
        if not isinstance(lora, dict):
            return "full", None, None
        config, found_weights = self.model(f"models/{values['parent']}")
        made = adapter(found_weights, lora, text_config(config).get("model_type"))
        if stage.kind == "reward":  # the scoring head beside the adapter
            width = int(completed(config)["hidden_size"])
            made = Adapter(made.low_rank, made.magnitudes, made.saved + width, made.biases, made.tokens, made.layers)
        return ("qlora" if quantized else "dora" if lora.get("use_dora") else "lora"), made, int(lora.get("r") or 8)


def _without_layers(config: dict[str, Any], count: int) -> dict[str, Any]:
    layers = int(completed(config)["num_hidden_layers"]) - count
    if isinstance(config.get("text_config"), dict):
        return {**config, "text_config": {**config["text_config"], "num_hidden_layers": layers, "layer_types": None}}
    return {**config, "num_hidden_layers": layers, "layer_types": None}
