"""One interface to all inference engines, and the params keys that choose one. Imports no torch.

    engine = open_engine(settings, model, base)            # settings: a section of params.yaml with EngineSettings
    answers = engine.generate(conversations, sampling)     # an Answer per conversation, in the order given

Engines:

    decoder     the ladder's own decoder with slots (ladder.inference.decoder)
    padded      padded batches through transformers' `generate` (ladder.inference.hf_generate)
    vllm        vLLM, which must be installed (ladder.inference.vllm_engine)
    endpoint    an OpenAI-compatible server (ladder.inference.client)
    auto        the endpoint if the section names one, else the decoder; a line on stdout says so where the model's
                family needs padded batches instead

A rung is loaded at the first prompt that is not cached (ladder.inference.answer_cache). A model in training answers
through ladder.inference.local.LocalEngine, which has the same interface and also completes prompts of token ids.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, Self

from pydantic import Field, model_validator

from ladder.chat.rendering import Messages
from ladder.inference.client import ask
from ladder.inference.endpoint import UNBOUNDED, Budget, Endpoint
from ladder.inference.endpoint_rung import read_endpoint_rung
from ladder.inference.types import Answer, EngineName, Generate, Sampling, Where, place
from ladder.models.rung import rung_name
from ladder.pipeline.stage import Config, UserError

RUNG = "{rung}"
"""Placeholder for the rung's name in `endpoint.model`."""


class Engine(Protocol):
    """An inference engine with its model."""

    def generate(
        self, prompts: Sequence[Messages], sampling: Sampling, *, progress: str = "", where: Where = place
    ) -> Iterable[Answer]:
        """Answer each conversation, in the order given.

        `progress` labels a progress bar on stderr. `where` maps a conversation's index to its file and row, for error
        messages.
        """
        ...


class EngineSettings(Config):
    """Keys that choose the inference engine, alike in every section that generates."""

    engine: EngineName = Field(default="auto", exclude_if=lambda engine: engine == "auto")
    """Inference engine: `auto`, `decoder`, `padded`, `vllm` or `endpoint` (ladder/inference/engines.py)."""
    endpoint: Endpoint | None = Field(default=None, exclude_if=lambda endpoint: endpoint is None)
    """OpenAI-compatible server to ask instead of the rung; null asks the rung."""
    budget: Budget = Field(default=UNBOUNDED, exclude_if=lambda budget: budget == UNBOUNDED)
    """Spending limit of one run at the endpoint. At the limit the run stops; the next run continues from its cache."""

    @model_validator(mode="after")
    def _check_engine(self) -> Self:
        if self.engine == "endpoint" and self.endpoint is None:
            raise ValueError("engine: endpoint needs a server; add `endpoint: {base_url: ..., model: ...}`")
        if self.endpoint is not None and self.engine not in ("auto", "endpoint"):
            raise ValueError(f"engine: {self.engine} asks the rung; remove `endpoint`, or set engine: endpoint")
        self.budget.check(self.endpoint)
        return self

    def of_rung(self, rung: str) -> Self:
        """Return the settings with the rung's name for `{rung}` in `endpoint.model`."""
        if self.endpoint is None:
            return self
        model = self.endpoint.model.replace(RUNG, rung)
        return self.model_copy(update={"endpoint": self.endpoint.model_copy(update={"model": model})})

    def of_model(self, model: Path) -> Self:
        """Return the settings with the endpoint of the rung in `model`, if it is a model behind one.

        Errors: UserError for an engine that needs weights.
        """
        if (served := read_endpoint_rung(model)) is None:
            return self
        if self.engine not in ("auto", "endpoint"):
            raise UserError(
                f"engine: {self.engine} needs weights, and {rung_name(model)} is a model behind an endpoint; set auto"
            )
        return self.model_copy(update={"endpoint": served, "budget": served.budget})


class RungSettings(EngineSettings):
    """Engine keys of a section that asks every rung of a list."""

    @model_validator(mode="after")
    def _check_rung(self) -> Self:
        if self.endpoint is not None and RUNG not in self.endpoint.model:
            raise ValueError(
                f"endpoint.model: expected {RUNG!r} in it, such as '{RUNG}', got {self.endpoint.model!r}: every rung "
                "is asked, and one model would answer for all of them"
            )
        return self


class EndpointEngine:
    """Engine of an OpenAI-compatible server."""

    def __init__(self, endpoint: Endpoint, budget: Budget = UNBOUNDED) -> None:
        self.endpoint, self.budget = endpoint, budget

    def generate(
        self, prompts: Sequence[Messages], sampling: Sampling, *, progress: str = "", where: Where = place
    ) -> list[Answer]:
        """Answer each conversation. Errors: UserError as for ladder.inference.client.ask."""
        return ask(self.endpoint, list(prompts), sampling, progress=progress, budget=self.budget)


def open_engine(settings: EngineSettings, model: Path, base: Path) -> Engine:
    """Open the engine of `settings`: its endpoint, or the rung in `model` (an adapter of `base`, complete, or itself
    behind an endpoint).

    Errors: UserError if `model` is no rung, or `settings` names an engine that it cannot use; the engine's `generate`
    raises UserError for a rung that it cannot load.
    """
    settings = settings.of_model(model)
    if settings.endpoint is not None:
        return EndpointEngine(settings.endpoint, settings.budget)
    from ladder.inference.answer_cache import RungEngine  # torch

    return RungEngine(model, base, settings.engine)


def answering(engine: Engine, *, progress: str) -> Generate:
    """Return the engine's function from conversations and sampling to a list of answers."""
    return partial(_answers, engine, progress)


def _answers(engine: Engine, progress: str, conversations: list[Messages], sampling: Sampling) -> list[Answer]:
    return list(engine.generate(conversations, sampling, progress=progress))
