"""Judge verdicts of a rung in process: generated replies and label log-likelihoods."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from ladder.chat.encode import Messages, continued_tokens, prompt_tokens
from ladder.data.jsonl import Row
from ladder.inference.local import engine_of
from ladder.inference.request_cache import EMPTY
from ladder.inference.types import LocalName, Sampling
from ladder.judges.parsers import Scale
from ladder.models.checkpoint import Model, device, load, read_rung

PORTION = 64
"""Requests answered between two writes to the cache, and so the most that a killed run loses."""


class RungReplies:
    """Replies of a rung, which is loaded at the first request that is not cached."""

    def __init__(self, directory: Path, base: Path, engine: LocalName = "auto") -> None:
        self.directory, self.base, self.engine = directory, base, engine
        self.rung = read_rung(directory)
        self.name = self.rung.rung
        self.identity: Row = {"rung": self.rung.identity}
        size = f"{self.rung.parameters / 1e6:.0f}M parameters"
        said = f"a local judge of {size}: its numbers are not comparable with GPT-4's"
        self.caveat: Row = {"parameters": self.rung.parameters, "caveat": said}

    @cached_property
    def model(self) -> Model:
        return load(self.directory, self.base)

    def buy(
        self, requests: dict[str, Messages], sampling: Sampling, keep: Callable[[str, Row], None], progress: str
    ) -> None:
        """Answer every request, and `keep` each reply under its request's key, in portions of `PORTION`."""
        left = []
        for key, messages in requests.items():
            length = len(prompt_tokens(self.model.tokenizer, messages))
            if length + sampling.max_new_tokens > self.positions:
                keep(key, EMPTY)
            else:
                left.append((key, messages, length))
        engine = engine_of(self.model, self.engine)
        for start in range(0, len(left), PORTION):
            portion = left[start : start + PORTION]
            answers = engine.generate([messages for _, messages, _ in portion], sampling, progress=progress)
            for (key, _, length), said in zip(portion, answers, strict=True):
                reply = {"prompt_tokens": length, "tokens": said.tokens, "finished": said.finished}
                keep(key, {"text": said.text, **reply})

    def weigh(
        self, requests: dict[str, Messages], scale: Scale, keep: Callable[[str, Row], None], progress: str
    ) -> None:
        """Compute each request's `label_logps` and `keep` them under its key, with the prompt length in tokens."""
        for key, messages in tqdm(requests.items(), desc=progress, unit="request", disable=not progress):
            length = len(prompt_tokens(self.model.tokenizer, messages))
            logps = label_logps(self.model, messages, scale)
            keep(key, {"logps": logps, "prompt_tokens": length, "tokens": 0, "finished": True})

    @property
    def positions(self) -> int:
        return int(self.model.model.config.max_position_embeddings)


@torch.inference_mode()
def label_logps(model: Model, messages: Messages, scale: Scale) -> list[float]:
    """log p(label + tail | messages, lead) in nats for each label; the prefix that all labels share is left out.

    Empty if messages and verdict exceed the model's context. The prompt's forward pass runs once.
    """
    texts = [scale.lead + label + scale.tail for label in scale.labels]
    replies = [continued_tokens(model.tokenizer, messages, text) for text in texts]
    shared = next(place for place, tokens in enumerate(zip(*replies, strict=False)) if len(set(tokens)) > 1)
    context, endings = replies[0][:shared], [torch.tensor(reply[shared:]) for reply in replies]
    if len(context) + max(map(len, endings)) > model.model.config.max_position_embeddings:
        return []
    causal: Any = model.model.get_base_model() if hasattr(model.model, "get_base_model") else model.model
    read = causal(input_ids=torch.tensor([context], device=device()), use_cache=True, logits_to_keep=1)
    read.past_key_values.batch_repeat_interleave(len(endings))
    # Right padding: under causal attention no real token attends to it.
    ids = pad_sequence(endings, batch_first=True).to(device())
    logits = causal(input_ids=ids, past_key_values=read.past_key_values, use_cache=True).logits
    logits = torch.cat([read.logits.expand(len(endings), -1, -1), logits[:, :-1]], dim=1)
    logps = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
    return [logps[row, : len(ending)].sum().item() for row, ending in enumerate(endings)]
