"""Merge two rungs' weights with mergekit.

python -m stages.merge soup models/sft/chat models/dpo/chat models/base models/merge/soup metrics/merge/soup.json
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
from pydantic import AfterValidator, ValidationError
from transformers import AutoModelForCausalLM

from ladder.models import Model, check_same_tokenizer, ledger, load_complete, read_rung, rung_name, save_rung
from ladder.run import Refused, Section, run


def merge_config(config: dict[str, Any]) -> dict[str, Any]:
    """A pydantic validator: mergekit's own schema, and no key beside it (mergekit itself ignores unknown keys)."""
    unknown = sorted(set(config) - set(MergeConfiguration.model_fields))
    if unknown:
        raise ValueError(f"mergekit has no key {', '.join(unknown)}")
    try:
        MergeConfiguration.model_validate(config)
    except ValidationError as error:
        raise ValueError("; ".join(item["msg"] for item in error.errors())) from None
    return config


class Params(Section):
    parents: Annotated[list[str], AfterValidator(lambda names: names)]
    """The two rungs, as the config names them."""
    seed: int
    """Of DARE's random masks."""
    config: Annotated[dict[str, Any], AfterValidator(merge_config)]
    """mergekit's configuration: merge_method, models with parameters, dtype; its models are rungs' names."""


def with_paths(config: Any, paths: dict[str, str]) -> Any:
    """The configuration with every rung's name replaced by the directory of its complete model."""
    if isinstance(config, dict):
        return {key: with_paths(value, paths) for key, value in config.items()}
    if isinstance(config, list):
        return [with_paths(value, paths) for value in config]
    return paths.get(config, config) if isinstance(config, str) else config


def named_models(config: dict[str, Any]) -> set[str]:
    """Every model that a configuration names."""
    listed = [entry["model"] for entry in config.get("models") or []]
    sliced = [source["model"] for part in config.get("slices") or [] for source in part["sources"]]
    return {*listed, *sliced, *([config["base_model"]] if config.get("base_model") else [])}


def main(params: Params, first: Path, second: Path, base: Path, output: Path, metrics: Path) -> None:
    rungs = [read_rung(first), read_rung(second)]
    check_same_tokenizer(*rungs)
    unknown = named_models(params.config) - {rung.rung for rung in rungs} - {read_rung(base).rung}
    if unknown:
        raise Refused(f"merge config names {sorted(unknown)}; its parents are {params.parents}, its base is base")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ladder-") as folder:
        paths = {}
        for directory in (base, first, second):
            whole = load_complete(directory, base)
            paths[whole.rung.rung] = str(Path(folder) / whole.rung.rung.replace("/", "-"))
            whole.model.save_pretrained(paths[whole.rung.rung])
            whole.tokenizer.save_pretrained(paths[whole.rung.rung])
        merged = Path(folder) / "merged"
        # mergekit's model card asks the hub, and fails without one after the weights are written
        options = MergeOptions(random_seed=params.seed, write_model_card=False, copy_tokenizer=False, quiet=True)
        run_merge(MergeConfiguration.model_validate(with_paths(params.config, paths)), str(merged), options)
        result = Model(AutoModelForCausalLM.from_pretrained(merged, dtype="auto"), whole.tokenizer, whole.rung)
        made = save_rung(
            output,
            result.model,
            result.tokenizer,
            rung=rung_name(output),
            method="merge",
            parents={rung.rung: rung for rung in rungs},
            settings=params.model_dump(),
        )
    ledger(metrics, made, time.monotonic() - started, {})


if __name__ == "__main__":
    run(main, named=True)
