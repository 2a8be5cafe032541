"""Filter steps: parse params.yaml into filter functions with validated parameters."""

import importlib
import inspect
import typing
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from ladder.filters import basic, prefilter, signatures
from ladder.filters.batch import Batch
from ladder.filters.decontamination import Benchmarks, read_benchmarks
from ladder.filters.prefilter import Kept
from ladder.filters.registry import MODEL_FILTERS
from ladder.filters.shingles import Hashes
from ladder.filters.verdict_cache import Remembered
from ladder.pipeline.errors import expectation
from ladder.pipeline.names import did_you_mean

GIVEN = {"base", "benchmarks", "model", "prompts"}
"""Parameters that the stage supplies to filters that declare them."""


@dataclass(frozen=True)
class FilterContext:
    """Inputs that the stage supplies to filters: benchmark folder, model, base model's rung, judge prompts.

    tasks: folder of benchmark files. model: a rung, a reward rung or a sentence encoder. prompts: folder of judge
    prompts.
    """

    tasks: Path
    model: Path
    base: Path
    prompts: Path

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """The inputs that a filter declares as parameters."""
        wanted = GIVEN & inspect.signature(function).parameters.keys()
        return {name: getattr(self, name) for name in sorted(wanted)}

    @property
    def benchmarks(self) -> Benchmarks:
        """Benchmarks, read once per process instead of pickled to it."""
        return _benchmarks(self.tasks)


_benchmarks = lru_cache(maxsize=1)(read_benchmarks)


@dataclass(frozen=True)
class Step:
    """One filter with its parameters; `label` is its unique name in reports."""

    label: str
    name: str
    parameters: dict[str, Any]

    @property
    def function(self) -> Callable[..., Any]:
        return function_of(self.name)

    @cached_property
    def kind(self) -> str:
        """Input of the filter, by the name of its first parameter: row, batch, rows or text."""
        return next(iter(inspect.signature(self.function).parameters))

    def bound(self, given: FilterContext) -> Callable[[Any], Any]:
        """Bind all parameters but the input. Batch filters get a verdict cache, since their verdicts are expensive."""
        arguments = {**self.parameters, **given.arguments(self.function)}
        bound = partial(self.function, **arguments)
        return Remembered(bound) if self.kind == "batch" else bound

    def screen(self, given: FilterContext) -> Callable[[Batch], Kept] | None:
        """Vectorized pre-filter of the step: rows that it is guaranteed to keep; None if there is none."""
        if self.name not in prefilter.__all__:
            return None
        return partial(vars(prefilter)[self.name], **self.parameters, **given.arguments(self.function))

    @property
    def sketch(self) -> Callable[[Batch], Hashes] | None:
        """Sketch function of the step, if it sees all rows and has one in ladder/filters/signatures.py."""
        return partial(vars(signatures)[self.name], **self.parameters) if self.name in signatures.__all__ else None


def parse(steps: list[dict[str, Any]]) -> list[Step]:
    """Parse the steps of params.yaml, each `name: {parameters}`. The second use of a filter is labeled `name-2`.

    Errors: ValueError for an unknown filter, and for parameters that do not match its signature.
    """
    parsed: list[Step] = []
    times: Counter[str] = Counter()
    for step in steps:
        if len(step) != 1:
            raise ValueError(f"expected one filter with its parameters, got {step}")
        name = next(iter(step))
        times[name] += 1
        label = name if times[name] == 1 else f"{name}-{times[name]}"
        parsed.append(Step(label, name, _parameters(name, step[name] or {})))
    return parsed


def function_of(name: str) -> Callable[..., Any]:
    """Return a filter by its name. Errors: ValueError for an unknown name, with the closest one."""
    if name in basic.__all__:
        return vars(basic)[name]
    if name in MODEL_FILTERS:
        # Only the chosen module: the import of a model's library takes seconds.
        module = importlib.import_module(f"ladder.filters.{MODEL_FILTERS[name]}")
        function: Callable[..., Any] = getattr(module, name)
        return function
    names = sorted([*basic.__all__, *MODEL_FILTERS])
    raise ValueError(f"no filter is named {name!r}{did_you_mean(name, names)}; expected one of {', '.join(names)}")


def parameters_type(name: str) -> type[BaseModel]:
    """Return the type of a filter's parameters, made from its signature."""
    function = function_of(name)
    types = typing.get_type_hints(function, include_extras=True)
    wanted = [one for one in list(inspect.signature(function).parameters.values())[1:] if one.name not in GIVEN]
    fields: Any = {one.name: (types[one.name], ... if one.default is one.empty else one.default) for one in wanted}
    return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)


def _parameters(name: str, given: Any) -> dict[str, Any]:
    """Validate parameters against the filter's signature."""
    model = parameters_type(name)
    fields = model.model_fields
    try:
        parameters = dict(model.model_validate(given))
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {expectation(fault['msg'])}" for fault in error.errors()
        )
        raise ValueError(
            f"{name}: expected {', '.join(sorted(fields)) or 'no parameters'}, got {given} ({faults})"
        ) from None
    if "min" in fields and "max" in fields and parameters["min"] > parameters["max"]:
        raise ValueError(f"{name}: min: expected at most max, {parameters['max']}, got {parameters['min']}")
    return parameters


def passes(steps: Sequence[Step]) -> list[tuple[Step, ...]]:
    """Group steps into passes. The first pass reads the input and never contains a step that sees all rows."""
    cut: list[tuple[Step, ...]] = [()]
    for step in steps:
        if step.kind == "rows":
            cut += [(step,), ()]
        else:
            cut[-1] += (step,)
    return [part for number, part in enumerate(cut) if part or number == 0]
