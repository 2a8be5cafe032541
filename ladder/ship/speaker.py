"""Stream the answers of a rung, token by token: the same tokens as the engine of the stages.

Conversations are rendered by the rung's own chat template and sampled by `ladder.inference.sampling.choose`, so an
answer equals the one that `ladder.inference.local.LocalEngine` gives to the same conversation as its first prompt, up
to the rounding of larger batches.
"""

import contextlib
import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import DynamicCache

from ladder.chat.encode import check_messages, prompt_tokens
from ladder.chat.rendering import Messages
from ladder.inference.local import decoded
from ladder.inference.sampling import choose, scramble
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.models.folded_adapters import folded_adapters
from ladder.models.rung import read_rung
from ladder.pipeline.errors import UserError
from ladder.ship.rung_folder import BASE

Finish = Literal["stop", "length"]
UNFINISHED = "\ufffd"
"""What a tokenizer writes for the first bytes of a character of several."""


@dataclass(frozen=True)
class Piece:
    """Next part of an answer. The pieces of an answer joined are its text."""

    text: str
    prompt_tokens: int
    tokens: int
    """Tokens of the answer so far, without the stop token."""
    finish: Finish | None = None
    """Set in the last piece: `stop` for the stop token or a stop string, `length` at the limit."""


class Speaker:
    """A loaded rung that answers one conversation at a time."""

    def __init__(self, folder: Path, base: Path = BASE) -> None:
        if read_rung(folder).kind == "endpoint":
            raise UserError(
                f"RUNG: {folder} is a model behind an endpoint; ask its server. Expected a rung with weights."
            )
        loaded = load(folder, base)
        self.name, self.tokenizer, self.stop = loaded.rung.rung, loaded.tokenizer, loaded.stop
        model: Any = loaded.model
        self.model: Any = (model.get_base_model() if hasattr(model, "get_base_model") else model).eval()
        self.positions: int | None = getattr(self.model.config, "max_position_embeddings", None)
        self._folded = contextlib.ExitStack()  # never closed: the adapter is folded as long as the rung is loaded
        self._folded.enter_context(folded_adapters(self.model))
        self._turn = threading.Lock()

    def prompt(self, messages: Messages) -> list[int]:
        """Return the token ids of a conversation.

        Errors: UserError for messages that the template refuses or that are longer than the model's context.
        """
        ids = prompt_tokens(self.tokenizer, check_messages(messages, "messages"), "messages")
        if self.positions is not None and len(ids) > self.positions:
            raise UserError(f"messages: expected at most {self.positions} tokens, got {len(ids)}. Shorten them.")
        return ids

    def answer(self, prompt: list[int], sampling: Sampling, stop: Sequence[str] = ()) -> Generator[Piece]:
        """Yield the answer to a prompt of token ids. stop: texts before which the answer ends.

        Waits until earlier answers have ended or were closed.
        """
        with self._turn:
            tokens: list[int] = []
            sent, finish = "", None
            for token in self._tokens(prompt, sampling):
                if token == self.stop:
                    finish = "stop"
                    break
                tokens.append(token)
                text = decoded(self.tokenizer, [prompt], [tokens])[0]
                end = _first(text, stop)
                if end is not None:
                    yield Piece(text[len(sent) : end], len(prompt), len(tokens), "stop")
                    return
                shown = _safe(text, stop)
                if len(shown) > len(sent):
                    yield Piece(shown[len(sent) :], len(prompt), len(tokens))
                    sent = shown
            text = decoded(self.tokenizer, [prompt], [tokens])[0]
            yield Piece(text[len(sent) :], len(prompt), len(tokens), "stop" if finish else "length")

    def _tokens(self, prompt: list[int], sampling: Sampling) -> Iterator[int]:
        limit = sampling.max_new_tokens
        if self.positions is not None:  # the last token of an answer is not fed back, so it needs no position
            limit = min(limit, self.positions + 1 - len(prompt))
        cache = DynamicCache(config=self.model.config)
        key = scramble(scramble(sampling.seed & 0xFFFFFFFF) ^ 0)  # the engine's key of the first prompt
        self._read(prompt[:-1], cache)
        token = prompt[-1]
        for position in range(len(prompt) - 1, len(prompt) - 1 + limit):
            token = self._step(token, cache, scramble(scramble(position) ^ key), sampling)
            yield token

    @torch.inference_mode()  # per call: a generator's steps may run in several threads
    def _read(self, prompt: list[int], cache: DynamicCache) -> None:
        """Fill the cache, without the prompt's last token: no logits are needed here."""
        if prompt:
            ids = torch.tensor([prompt], device=self.model.device)
            self.model.base_model(input_ids=ids, past_key_values=cache, use_cache=True)

    @torch.inference_mode()
    def _step(self, token: int, cache: DynamicCache, noise: int, sampling: Sampling) -> int:
        device = self.model.device
        ids = torch.tensor([[token]], device=device)
        logits = self.model(input_ids=ids, past_key_values=cache, use_cache=True).logits
        return int(choose(logits[:, -1], torch.tensor([noise], device=device), sampling))


def _first(text: str, stop: Sequence[str]) -> int | None:
    """Return the position of the first stop string; None without one."""
    return min((place for one in stop if (place := text.find(one)) >= 0), default=None)


def _safe(text: str, stop: Sequence[str]) -> str:
    """Return the beginning of a text that no later token changes: no cut character, and no start of a stop string."""
    text = text.rstrip(UNFINISHED)
    held = max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
    return text[: len(text) - held]
