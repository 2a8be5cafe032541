"""LLM judges that grade answers, behind an OpenAI-compatible endpoint or in process.

    judge = load_judge(params, directory, base)                   # ladder.judges.judge
    judge.rate(requests, RATINGS, progress="mt_bench")            # list[float | None], one grade per request
    judge.choose(requests, CHOICES, progress="mt_bench")          # list[str | None], one label per request
    judge.ask(requests, parse_rubric, progress="harm")            # list[T | None], any reply format
    judge.objects(requests, Grades, progress="graded")            # list[Grades | None], JSON objects of a schema
    judge.record(TEMPLATE)                                        # the judge's entry in the metric file

A request is one conversation (`Messages`), made of the benchmark's template and the quoted answer (`fenced(answer)`,
ladder.data.prompt_templates). The verdict formats (`RATINGS`, `CHOICES`) are in ladder.judges.parsers. None means no
verdict: give it weight 0; the record counts it. A reasoning model's thoughts before the verdict are ignored.

`rate` and `choose` work with both kinds of judge. An endpoint's reply is parsed strictly: `[[5]]`, `[[A]]`. An
in-process model is too small to write a useful critique. Its reply is started with the scale's `lead`, and the label
likelihoods give the expected grade (Liu et al. 2023, G-Eval, arXiv:2303.16634, section 2, eq. 1) or the most likely
choice. With numeric labels it is asked twice, the second time with a reversed scale. A small model tends to repeat
numbers from its prompt; with both directions an answer that asks for a 10 gains nothing. Every reply is cached by the
content of its request, so it is bought only once.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import Field, model_validator

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.inference.client import Client, Request
from ladder.inference.engines import EngineSettings
from ladder.inference.request_cache import EMPTY, Replies, content_key, store_of
from ladder.inference.types import LocalName, Sampling
from ladder.judges.parsers import CHOICES, RATINGS, Scale, parse_json
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of

if TYPE_CHECKING:
    from ladder.judges.local_judge import RungReplies  # torch

T = TypeVar("T")
S = TypeVar("S", bound=Config)
RETRY_TEMPERATURE = 0.5
"""Minimum temperature of a retry: a greedy reply that failed to parse would be the same again."""


class Judging(EngineSettings):
    """Who judges, and what may be spent on it. Without an endpoint, the judge is the rung given to the stage."""

    max_new_tokens: int = Field(default=1024, ge=1)
    """Maximum reply length in tokens. A verdict after it is unparseable."""
    temperature: float = Field(default=0.0, ge=0)
    """Temperature of the first try; later tries use at least 0.5."""
    retries: int = Field(default=2, ge=0)
    """Maximum number of retries for a reply that cannot be parsed."""

    @model_validator(mode="after")
    def _check_local(self) -> "Judging":
        if self.engine == "vllm":
            raise ValueError(
                "engine: vllm: a rung that judges needs the likelihoods of its labels, which vLLM does not return; "
                "expected auto, decoder, padded or endpoint"
            )
        return self

    @property
    def local_engine(self) -> LocalName:
        """Engine of a rung that judges in this process."""
        return self.engine if self.engine == "decoder" or self.engine == "padded" else "auto"


class Judge:
    """A judge with its reply cache. Counts cover all requests since it was created."""

    def __init__(self, params: Judging, source: "Client | RungReplies", store: Replies) -> None:
        self.params, self.source, self.store = params, source, store
        self.asked = self.unparseable = self.replies = self.cut = self.prompt_tokens = self.tokens = 0
        self.identity: Row
        self.caveat: Row
        if isinstance(source, Client):
            self.name, self.identity, self.caveat = source.endpoint.model, {"base_url": source.endpoint.base_url}, {}
        else:
            self.name, self.identity, self.caveat = source.name, source.identity, source.caveat

    def from_zero(self) -> "Judge":
        """Return a judge with the same model, client and cache whose counts start at 0."""
        return Judge(self.params, self.source, self.store)

    def ask(self, requests: list[Messages], parse: Callable[[str], T | None], *, progress: str) -> list[T | None]:
        """Return each reply as `parse` reads it; None if `parse` accepts none of the tries.

        Errors: UserError when the endpoint cannot be used, more than its `max_failed` share of requests fail, or the
        budget is exhausted; replies so far are kept.
        """
        return self._asked(requests, lambda text: parse(answer_of(text)), None, progress)

    def objects(self, requests: list[Messages], schema: type[S], *, progress: str) -> list[S | None]:
        """Return the JSON objects of `schema` that the judge writes; None if no try gives one.

        An endpoint receives the schema. In each try an invalid reply gets one repair request that shows the error.
        Errors: UserError as for `ask`.
        """
        return self._asked(requests, parse_json(schema), schema, progress)

    def _asked(
        self, requests: list[Messages], parse: Callable[[str], T | None], schema: type[Config] | None, progress: str
    ) -> list[T | None]:
        verdicts: list[T | None] = [None] * len(requests)
        left = list(range(len(requests)))
        for attempt in range(self.params.retries + 1):
            replies = self._replies([requests[index] for index in left], attempt, schema, progress)
            for index, reply in zip(left, replies, strict=True):
                verdicts[index] = parse(reply["text"])
            # EMPTY (too long, or failed in all tries) is not retried: another try would have no reply either.
            answered = [index for index, reply in zip(left, replies, strict=True) if reply is not EMPTY]
            left = [index for index in answered if verdicts[index] is None]
            if not left:
                break
        self._count(len(verdicts), sum(verdict is None for verdict in verdicts))
        return verdicts

    def rate(self, requests: list[Messages], scale: Scale = RATINGS, *, progress: str) -> list[float | None]:
        """Grade each request: an endpoint's written grade, or a rung's expected grade, sum of p(label) * worth.

        With numeric labels, a rung's grade is the middle of the scale, plus half the difference between the expected
        label on the normal and on the reversed scale. Errors: UserError as for `ask`.
        """
        if isinstance(self.source, Client):
            return self.ask(requests, scale.grade, progress=progress)
        low, *_, high = scale.labels
        if scale.worth:
            grades = self._expected(self.source, requests, scale, progress)
        else:
            up = self._expected(self.source, [facing(one, high, low) for one in requests], scale, progress)
            down = self._expected(self.source, [facing(one, low, high) for one in requests], scale, progress)
            middle = (float(low) + float(high)) / 2
            grades = [
                None if one is None or other is None else middle + (one - other) / 2
                for one, other in zip(up, down, strict=True)
            ]
        self._count(len(grades), grades.count(None))
        return grades

    def choose(self, requests: list[Messages], scale: Scale = CHOICES, *, progress: str) -> list[str | None]:
        """Choose one of the scale's labels per request: an endpoint's written label, or a rung's most likely one.

        Errors: UserError as for `ask`.
        """
        if isinstance(self.source, Client):
            return self.ask(requests, scale.choice, progress=progress)
        weights = self._weights(self.source, requests, scale, progress)
        self._count(len(weights), weights.count([]))
        return [scale.labels[logps.index(max(logps))] if logps else None for logps in weights]

    def record(self, *templates: str) -> Row:
        """Entry for the metric file: the judge, the templates (sha256 of their text) and the counts.

        It is the same whether replies were bought or cached. `replies` counts tries, `cut` those truncated at
        max_new_tokens. Tokens are those of prompts and replies.
        """
        return {
            "judge": self.name,
            **self.identity,
            "template_sha256": hashlib.sha256("\0".join(templates).encode()).hexdigest(),
            "asked": self.asked,
            "unparseable": self.unparseable,
            "replies": self.replies,
            "cut": self.cut,
            "prompt_tokens": self.prompt_tokens,
            "tokens": self.tokens,
            **self.caveat,
        }

    def _replies(self, requests: list[Messages], attempt: int, schema: type[Config] | None, progress: str) -> list[Row]:
        temperature = self.params.temperature if attempt == 0 else max(self.params.temperature, RETRY_TEMPERATURE)
        sampling = Sampling(temperature=temperature, max_new_tokens=self.params.max_new_tokens, seed=attempt)
        source = self.source
        if isinstance(source, Client):
            found, _ = source.objects([Request(messages, sampling, schema) for messages in requests], progress=progress)
            return self._tallied([EMPTY if reply is None else asdict(reply) for reply in found])

        def buy(missing: dict[str, Messages]) -> None:
            source.buy(missing, sampling, self.store.add, progress)

        form: Row = {"temperature": temperature, "max_new_tokens": self.params.max_new_tokens, "attempt": attempt}
        if self.params.local_engine == "padded":  # other draws, and other ties
            form["engine"] = "padded"
        return self._kept(requests, form, buy, progress)

    def _weights(self, rung: "RungReplies", requests: list[Messages], scale: Scale, progress: str) -> list[list[float]]:
        form = {"labels": scale.labels, "lead": scale.lead, "tail": scale.tail}
        rows = self._kept(
            requests, form, lambda missing: rung.weigh(missing, scale, self.store.add, progress), progress
        )
        return [row["logps"] for row in rows]

    def _expected(
        self, rung: "RungReplies", requests: list[Messages], scale: Scale, progress: str
    ) -> list[float | None]:
        weights = self._weights(rung, requests, scale, progress)
        return [expected(logps, scale.grades()) if logps else None for logps in weights]

    def _kept(
        self, requests: list[Messages], form: Row, buy: Callable[[dict[str, Messages]], None], progress: str
    ) -> list[Row]:
        """Return a rung's replies to requests of this format; missing ones are generated, equal requests once.

        There is no lock: a rung costs no money, so several processes may judge at once, each on its own GPU.
        """
        keys = [content_key(judge=self.name, **self.identity, messages=messages, **form) for messages in requests]
        wanted = dict(zip(keys, requests, strict=True))
        missing = {key: messages for key, messages in wanted.items() if key not in self.store}
        if progress:
            print(f"{self.name}: {len(wanted)} requests, {len(wanted) - len(missing)} from cache", flush=True)
        if missing:
            buy(missing)
        return self._tallied([self.store[key] for key in keys])

    def _tallied(self, rows: list[Row]) -> list[Row]:
        self.replies += len(rows)
        self.cut += sum(not row["finished"] for row in rows)
        self.prompt_tokens += sum(row["prompt_tokens"] for row in rows)
        self.tokens += sum(row["tokens"] for row in rows)
        return rows

    def _count(self, asked: int, unparseable: int) -> None:
        self.asked += asked
        self.unparseable += unparseable


def facing(request: Messages, highest: str, lowest: str) -> Messages:
    """Append a line to the request that states the direction of its scale."""
    *before, last = request
    line = f"On this scale {highest} is the highest rating and {lowest} the lowest."
    return [*before, {**last, "content": f"{last['content']}\n\n{line}"}]


def expected(logps: list[float], values: list[float]) -> float:
    """Mean of `values` under the softmax of the log-probabilities `logps`."""
    highest = max(logps)
    weights = [math.exp(logp - highest) for logp in logps]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def load_judge(params: Judging, directory: Path, base: Path) -> Judge:
    """Create the judge of `params`: its endpoint, or else the rung in `directory` (an adapter of `base`, or complete).

    Its replies are in its model's cache (ladder.inference.request_cache). Errors: UserError if `directory` is no rung.
    """
    if params.endpoint is not None:
        client = Client(params.endpoint, params.budget)
        return Judge(params, client, client.store)
    from ladder.judges.local_judge import RungReplies  # torch

    rung = RungReplies(directory, base, params.local_engine)
    return Judge(params, rung, store_of(rung.name, **rung.identity))
