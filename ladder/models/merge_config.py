"""Validate a merge configuration by mergekit's own schema; refuse keys and parameters that mergekit would ignore."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mergekit import merge_methods
from mergekit.common import dtype_from_name
from mergekit.config import MergeConfiguration
from mergekit.merge_methods.base import BasePolicy, ParameterScope
from mergekit.merge_methods.generalized_task_arithmetic import GeneralizedTaskArithmeticMerge
from pydantic import ValidationError

from ladder.pipeline.errors import expectation

OURS = ("tokenizer", "tokenizer_source", "chat_template")


def merge_config(config: dict[str, Any]) -> dict[str, Any]:
    """Validate a merge configuration (pydantic validator) by mergekit's schema and the parameters of its method.

    mergekit itself ignores unknown keys, and parameters in places where its method does not read them.
    Errors: ValueError.
    """
    try:
        merge = MergeConfiguration.model_validate(config, extra="forbid")
        dtype_from_name(merge.dtype), dtype_from_name(merge.out_dtype)
    except ValidationError as error:
        raise ValueError("; ".join(_sentences(error, config))) from None
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    if merge.modules:
        raise ValueError("modules: expected models or slices; a language model has only one module")
    for key in OURS:
        if config.get(key) is not None:
            raise ValueError(f"{key}: not supported; a merge keeps the tokenizer and template that its parents share")
    for name in named_models(config):
        if not isinstance(name, str):
            raise ValueError(f"expected a rung's name as a model, got {name!r}")
    _check_parameters(merge)
    return config


def _sentences(error: ValidationError, config: Any) -> list[str]:
    """One message per key. For a union type, pydantic reports one error per member type."""
    found: dict[str, list[Any]] = {}
    for item in error.errors():
        keys, value = [], config
        for part in item["loc"]:  # also contains the names of the union's member types
            if isinstance(value, dict) and part in value or isinstance(value, list) and isinstance(part, int):
                keys.append(str(part))
                value = value[part]  # type: ignore[index]
        if item["type"] == "missing":
            keys.append(str(item["loc"][-1]))
        found.setdefault(".".join(keys), []).append(item)
    unknown = [key for key, items in found.items() if items[0]["type"] == "extra_forbidden"]
    if unknown:
        return [f"no such mergekit key: {', '.join(unknown)}"]
    kinds = "expected a number, a list of numbers over the layers, or {filter, value}"
    return [f"{key}: {expectation(items[0]['msg']) if len(items) == 1 else kinds}" for key, items in found.items()]


def _check_parameters(merge: MergeConfiguration) -> None:
    methods = {method.spec.name: method for method in merge_methods.registered_methods()}
    if merge.merge_method not in methods:
        raise ValueError(f"merge_method: expected one of {', '.join(sorted(methods))}, got {merge.merge_method!r}")
    method = methods[merge.merge_method]
    known = {parameter.name: parameter.scope for parameter in method.spec.parameters}
    for where, parameters, model, base in _parameters(merge):
        for name in parameters:
            key = f"{where}.{name}"
            if name not in known:
                raise ValueError(
                    f"{key}: no such parameter of {merge.merge_method}; expected one of {', '.join(known)}"
                )
            if model and known[name] == ParameterScope.SHARED:
                raise ValueError(
                    f"{key}: {merge.merge_method} has one {name} for all models. Move it to the top level."
                )
            if model and model == base and known[name] == ParameterScope.NON_BASE:
                raise ValueError(f"{key}: {merge.merge_method} does not read {name} of the base model. Remove it.")
            prunes = not isinstance(method, GeneralizedTaskArithmeticMerge) or method.sparsification_method
            if name in ("density", "rescale") and not prunes:
                raise ValueError(f"{key}: no effect, because {merge.merge_method} does not prune. Remove it.")
    bases = [part.base_model or merge.base_model for part in merge.slices] if merge.slices else [merge.base_model]
    if method.spec.contract.base == BasePolicy.REQUIRED and None in bases:
        raise ValueError(f"base_model: missing; {merge.merge_method} computes the other models' differences from it")


def _parameters(merge: MergeConfiguration) -> Iterator[tuple[str, dict[str, Any], Any, Any]]:
    """Yield each parameter mapping: its key, the mapping, the model it applies to (None: all), the base model there."""
    yield "parameters", merge.parameters or {}, None, merge.base_model
    for n, entry in enumerate(merge.models or []):
        yield f"models.{n}.parameters", entry.parameters or {}, entry.model, merge.base_model
    for n, part in enumerate(merge.slices or []):
        base = part.base_model or merge.base_model
        yield f"slices.{n}.parameters", part.parameters or {}, None, base
        for m, source in enumerate(part.sources):
            yield f"slices.{n}.sources.{m}.parameters", source.parameters or {}, source.model, base


def named_models(config: Any) -> Iterator[Any]:
    """Yield every model that a configuration names, in order; repeated names are repeated."""
    for key, value in config.items() if isinstance(config, dict) else enumerate(config):
        if key in ("model", "base_model") and value is not None:
            yield value
        elif isinstance(value, dict | list):
            yield from named_models(value)


def with_paths(config: Any, paths: dict[str, Path]) -> Any:
    """Return the configuration with every rung name replaced by its directory."""
    if isinstance(config, list):
        return [with_paths(value, paths) for value in config]
    if not isinstance(config, dict):
        return config
    names = {key for key in ("model", "base_model") if config.get(key) is not None}
    # Use a mapping, because mergekit interprets + and @ in a string as its own syntax.
    found = {key: {"model": {"path": str(paths[config[key]])}} for key in names}
    return {key: found.get(key) or with_paths(value, paths) for key, value in config.items()}
