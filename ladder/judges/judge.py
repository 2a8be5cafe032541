"""Judges: models that grade answers, behind an OpenAI-compatible endpoint or in this process.

    judge = load_judge(params, directory, base)                   # ladder.judges.judge
    judge.rate(requests, RATINGS, progress="mt_bench")            # list[float | None], one grade a request
    judge.choose(requests, CHOICES, progress="mt_bench")          # list[str | None], one of the labels
    judge.ask(requests, parse_rubric, progress="harm")            # list[T | None], any form of reply
    judge.objects(requests, Grades, progress="graded")            # list[Grades | None], JSON of a schema
    judge.record(TEMPLATE)                                        # what the metric file says of the judge

A request is one conversation (`Messages`), made of the benchmark's template and the answer, `fenced(answer)` of
ladder.data.quoting. The forms of verdicts (`RATINGS`, `CHOICES`) are in ladder.judges.parsers. None is a verdict that
could not be had: give it weight 0, it is counted in the record. What a reasoning model thinks before its verdict is not
read.

`rate` and `choose` serve both kinds of judge. An endpoint writes a reply, which is parsed strictly: `[[5]]`, `[[A]]`.
A model in this process is too small to be asked for an essay: its reply is begun with the scale's `lead`, and the
likelihoods of the labels give the expected grade (Liu et al. 2023, G-Eval, arXiv:2303.16634, section 2, eq. 1) or
the likeliest choice. Where the labels are numbers it is asked twice, the scale turned round the second time: a small
model repeats numbers that it has just read, and an answer that asks for a 10 then gains nothing by it. Every reply is
kept by the content of its request, so that it is bought once.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from pydantic import Field, model_validator

from ladder.chat.encode import Messages
from ladder.data.jsonl import Row
from ladder.inference.client import Client, Request
from ladder.inference.endpoint import UNBOUNDED, Budget, Endpoint
from ladder.inference.request_cache import EMPTY, Replies, content_key, store_of
from ladder.inference.sampling import Sampling
from ladder.judges.local_judge import RungReplies
from ladder.judges.parsers import CHOICES, RATINGS, Scale, parse_json
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of

T = TypeVar("T")
S = TypeVar("S", bound=Config)
RETRY_TEMPERATURE = 0.5
"""A greedy reply that could not be parsed would come again as it was."""


class Judging(Config):
    """Who judges, and what may be spent on it."""

    endpoint: Endpoint | None = None
    """An OpenAI-compatible server. Without it the judge is the rung that the stage is given."""
    max_new_tokens: int = Field(default=1024, ge=1)
    """Longest reply. A verdict that stands beyond it is unparseable."""
    temperature: float = Field(default=0.0, ge=0)
    """Of the first try; later tries are drawn at 0.5 at least."""
    retries: int = Field(default=2, ge=0)
    """How often a judge whose reply cannot be parsed is asked again."""
    budget: Budget = UNBOUNDED
    """What one run may buy of the endpoint; then it stops, and a further run goes on from there."""

    @model_validator(mode="after")
    def _check(self) -> "Judging":
        self.budget.check(self.endpoint)
        return self


class Judge:
    """A judge with its store of replies. What it counts is of all its requests since it was made."""

    def __init__(self, params: Judging, source: Client | RungReplies, store: Replies) -> None:
        self.params, self.source, self.store = params, source, store
        self.asked = self.unparseable = self.replies = self.cut = self.prompt_tokens = self.tokens = 0
        self.identity: Row
        self.caveat: Row
        if isinstance(source, Client):
            self.name, self.identity, self.caveat = source.endpoint.model, {"base_url": source.endpoint.base_url}, {}
        else:
            self.name, self.identity, self.caveat = source.name, source.identity, source.caveat

    def ask(self, requests: list[Messages], parse: Callable[[str], T | None], *, progress: str) -> list[T | None]:
        """The judge's replies, each as `parse` reads it; None where no try gave one that `parse` takes.

        Errors: UserError when an endpoint cannot be had, more than its share of requests fail, or the budget is spent;
        what was bought until then is kept.
        """
        return self._asked(requests, lambda text: parse(answer_of(text)), None, progress)

    def objects(self, requests: list[Messages], schema: type[S], *, progress: str) -> list[S | None]:
        """The JSON objects of `schema` that the judge writes; None where no try gave one.

        An endpoint is told the schema, and at each try a reply that is none is shown its error and asked for once
        more. Errors: as `ask`.
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
            # What has no reply (EMPTY itself: too long, or failed in all tries) would have none in other words either.
            answered = [index for index, reply in zip(left, replies, strict=True) if reply is not EMPTY]
            left = [index for index in answered if verdicts[index] is None]
            if not left:
                break
        self._count(len(verdicts), sum(verdict is None for verdict in verdicts))
        return verdicts

    def rate(self, requests: list[Messages], scale: Scale = RATINGS, *, progress: str) -> list[float | None]:
        """A grade for each request: of an endpoint what it wrote, of a rung the expected one, sum of p(label) worth.

        A rung's grade is the middle of the scale, plus half of what the expected label falls by when the scale is
        turned round. Errors: as `ask`.
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
        """One of the scale's labels for each request: of an endpoint what it wrote, of a rung the likeliest.

        Errors: as `ask`.
        """
        if isinstance(self.source, Client):
            return self.ask(requests, scale.choice, progress=progress)
        weights = self._weights(self.source, requests, scale, progress)
        self._count(len(weights), weights.count([]))
        return [scale.labels[logps.index(max(logps))] if logps else None for logps in weights]

    def record(self, *templates: str) -> Row:
        """For the metric file: who judged by which templates (sha256 of their text), and the counts.

        The same whether replies were bought or in the store. `replies` counts tries, `cut` those that met
        max_new_tokens; tokens are of prompts and replies.
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

        form = {"temperature": temperature, "max_new_tokens": self.params.max_new_tokens, "attempt": attempt}
        return self._kept(requests, form, buy, progress)

    def _weights(self, rung: RungReplies, requests: list[Messages], scale: Scale, progress: str) -> list[list[float]]:
        form = {"labels": scale.labels, "lead": scale.lead, "tail": scale.tail}
        rows = self._kept(
            requests, form, lambda missing: rung.weigh(missing, scale, self.store.add, progress), progress
        )
        return [row["logps"] for row in rows]

    def _expected(self, rung: RungReplies, requests: list[Messages], scale: Scale, progress: str) -> list[float | None]:
        weights = self._weights(rung, requests, scale, progress)
        return [expected(logps, scale.grades()) if logps else None for logps in weights]

    def _kept(
        self, requests: list[Messages], form: Row, buy: Callable[[dict[str, Messages]], None], progress: str
    ) -> list[Row]:
        """A rung's replies to the requests in this form of asking; those that the store lacks are made, each once.

        A rung costs no money: several processes may let it judge at once, each on its own GPU.
        """
        keys = [content_key(judge=self.name, **self.identity, messages=messages, **form) for messages in requests]
        wanted = dict(zip(keys, requests, strict=True))
        missing = {key: messages for key, messages in wanted.items() if key not in self.store}
        if progress:
            print(f"{self.name}: {len(wanted)} requests, {len(wanted) - len(missing)} answered before", flush=True)
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
    """The request with a line on which way its scale runs."""
    *before, last = request
    line = f"On this scale {highest} is the highest rating and {lowest} the lowest."
    return [*before, {**last, "content": f"{last['content']}\n\n{line}"}]


def expected(logps: list[float], values: list[float]) -> float:
    """The mean of `values` under the softmax of their log-probabilities."""
    highest = max(logps)
    weights = [math.exp(logp - highest) for logp in logps]
    return sum(weight * value for weight, value in zip(weights, values, strict=True)) / sum(weights)


def load_judge(params: Judging, directory: Path, base: Path) -> Judge:
    """The judge of `params`: its endpoint, or else the rung in `directory`, which may stand on `base`.

    Its replies lie in the store of its model (ladder.inference.request_cache). Errors: UserError for what is no rung.
    """
    if params.endpoint is not None:
        client = Client(params.endpoint, params.budget)
        return Judge(params, client, client.store)
    rung = RungReplies(directory, base)
    return Judge(params, rung, store_of(rung.name, **rung.identity))
