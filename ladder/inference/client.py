"""Client of OpenAI-compatible endpoints, with a persistent reply cache; used by generation, synthesis and judges.

    client = Client(endpoint, Budget(tokens=2_000_000))
    replies = client.ask([Request(messages, sampling)], progress="synthesize chat")      # list[Reply | None]
    replies = client.ask([Request(messages, sampling, Verdict)], progress="judge")       # reply.value is a Verdict

Each reply is cached on disk (ladder.inference.request_cache) as soon as it arrives. The key is the sha256 of the
request body: model, messages, temperature, top_p, max_tokens, response_format, the endpoint's `extra`, and a seed if
the temperature is not 0. A run that was killed, exhausted its budget, or whose rows have changed requests only the
missing replies. Two stages that send the same request at temperature 0 pay for it once.

The address is not part of the key. Under Slurm a server may come up on another port or node with the same weights and
model name, and no request is sent again. Each reply records the address that it came from, and a run reports replies
from an address other than its own. Requests that must differ (samples of one prompt) need different seeds; `seeded`
assigns them.
"""

import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tqdm import tqdm

from ladder.chat.rendering import Messages
from ladder.data.jsonl import Row
from ladder.inference.endpoint import UNBOUNDED, Bought, Budget, Endpoint
from ladder.inference.request_cache import content_key, store_of
from ladder.inference.sender import RequestSender
from ladder.inference.structured_output import read_object, response_format
from ladder.inference.types import Answer, Sampling
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of, unended

REPAIR = (
    "That is not the JSON object that was asked for: {error}. Reply with the corrected JSON object and nothing else. "
    "Its JSON Schema: {schema}"
)


@dataclass(frozen=True)
class Request:
    """A conversation to be answered by a model. With `schema`, the answer must be one JSON object of that schema."""

    messages: Messages
    sampling: Sampling = Sampling()
    schema: type[Config] | None = None


@dataclass(frozen=True)
class Reply:
    """A reply: its text, token counts, and `finished`: the text is not empty and was not truncated at the token limit
    or by a content filter."""

    text: str
    prompt_tokens: int
    tokens: int
    finished: bool
    value: Any = None
    """The parsed object, if the request has a schema."""
    reasoning: str = ""
    """Reasoning that the server returned in a separate field; `text` does not contain it."""


class Client:
    """Client of one endpoint, with the reply cache of its model. The budget applies to the client's lifetime."""

    def __init__(self, endpoint: Endpoint, budget: Budget) -> None:
        self.endpoint, self.budget = endpoint, budget
        self.buyer = RequestSender(endpoint, budget)
        self.store = store_of(endpoint.model)
        self.repaired = self.rejected = 0
        """Replies that did not match their schema: those fixed by one repair request, and those that still did not."""

    @property
    def bought(self) -> Bought:
        """Requests and tokens bought so far. 0 if all replies came from the cache, so it is written to no output."""
        return self.buyer.bought

    def ask(self, requests: list[Request], *, progress: str) -> list[Reply | None]:
        """Return the replies in the order of the requests. Missing ones are requested; equal requests are sent once.

        A reply is None if the request exceeds the model's context, is refused for its content, or fails for good.
        That is: every try failed, or with a schema, neither the reply nor its repair (a second request that shows the
        error) is valid. Errors: UserError when the endpoint cannot be used, the budget is exhausted, or more than the
        share `max_failed` of all requests have failed. Replies so far are kept.
        """
        replies, wrong = self.objects(requests, progress=progress)
        for index, error in wrong.items():
            replies[index] = None
            self.buyer.fail(f"returned no valid JSON object: {error}")
        return replies

    def objects(self, requests: list[Request], *, progress: str) -> tuple[list[Reply | None], dict[int, str]]:
        """Return all replies, and the schema error of each invalid one by its index.

        Invalid replies do not count toward `max_failed`; the caller counts them. Errors: UserError as for `ask`.
        """
        replies = self._replies(requests, progress)
        repairs: dict[int, Request] = {}
        for index, (request, reply) in enumerate(zip(requests, replies, strict=True)):
            if reply and request.schema:
                replies[index], error = _read(reply, request.schema)
                if error:
                    repairs[index] = _repair(request, reply, error)
        wrong: dict[int, str] = {}
        if repairs:
            second = self._replies(list(repairs.values()), progress and f"{progress}, repairs")
            for (index, request), reply in zip(repairs.items(), second, strict=True):
                replies[index], error = _read(reply, request.schema) if reply and request.schema else (None, "")
                wrong |= {index: error} if error else {}
            mended = sum(replies[index] is not None and index not in wrong for index in repairs)
            self.repaired += mended
            self.rejected += len(repairs) - mended
            self._report(
                f"{len(repairs)} replies did not match their schema; a second request corrected {mended}", progress
            )
        return replies, wrong

    def _replies(self, requests: list[Request], progress: str) -> list[Reply | None]:
        bodies = [body(self.endpoint, request) for request in requests]
        keys = [content_key(**one) for one in bodies]
        wanted = dict(zip(keys, bodies, strict=True))
        missing, failed = self._missing(wanted), self.buyer.failed
        self.buyer.wanted += len(wanted)
        self._report(f"{len(wanted)} requests, {len(wanted) - len(missing)} from cache", progress)
        if missing:
            with self.store.alone(report=bool(progress)):
                self._buy(self._missing(missing), len(wanted), progress)
        rows = {key: self.store[key] for key in wanted if key in self.store}
        self._report_replies(rows, len(wanted), self.buyer.failed - failed, progress)
        return [reply_of(rows[key]) if key in rows else None for key in keys]

    def _buy(self, missing: dict[str, Row], wanted: int, progress: str) -> None:
        before = wanted - len(missing)
        with tqdm(total=wanted, initial=before, desc=progress, unit="reply", disable=not progress) as bar:
            self.buyer.buy(missing, self.store.add, bar)

    def _missing(self, wanted: dict[str, Row]) -> dict[str, Row]:
        return {key: one for key, one in wanted.items() if key not in self.store}

    def _report_replies(self, rows: dict[str, Row], wanted: int, failed: int, progress: str) -> None:
        own = self.endpoint.base_url
        for address, count in sorted(Counter(row["base_url"] for row in rows.values()).items()):
            if address != own:
                self._report(f"{count} of the replies are from {address}, not {own}", progress)
        if without := wanted - len(rows) - failed:
            self._report(f"{without} requests have no reply{self._causes()}", progress)
        if empty := sum(not row["text"].strip() for row in rows.values()):
            self._report(f"{empty} replies have no text and count as unfinished", progress)
        for reason, count in sorted(self.buyer.unknown.items()):
            self._report(f"{count} replies ended with the unknown reason {reason!r} and count as unfinished", progress)
        self.buyer.unknown.clear()
        if failed:
            last = self.buyer.last_failure
            self._report(f"{failed} requests failed; the next run sends them again. Last error: {last}", progress)

    def _causes(self) -> str:
        """Why requests have no reply, since the last call: the count of each kind and its latest server message."""
        kinds, self.buyer.without = self.buyer.without, {}
        counts = ", ".join(f"{len(causes)} {kind}" for kind, causes in kinds.items())
        return f": {counts}; the server {', '.join(causes[-1] for causes in kinds.values())}" if kinds else ""

    def _report(self, sentence: str, progress: str) -> None:
        if progress:  # stderr, because stdout may be the command's result
            print(f"{self.endpoint.model}: {sentence}", file=sys.stderr, flush=True)


def ask(
    endpoint: Endpoint,
    conversations: list[Messages],
    sampling: Sampling,
    *,
    progress: str,
    budget: Budget = UNBOUNDED,
) -> list[Answer]:
    """Have an OpenAI-compatible server answer each conversation; answers are in the order given.

    A conversation given n times gets n samples. A missing reply becomes an empty, unfinished answer. The budget applies
    to the whole process. Errors: UserError when the server cannot be reached or refuses the request, or the budget is
    exhausted.
    """
    replies = client_of(endpoint, budget).ask(seeded(conversations, sampling), progress=progress)
    return [Answer("", 0, False) if reply is None else _answer(reply) for reply in replies]


def _answer(reply: Reply) -> Answer:
    """Convert a reply to an answer. A reply with reasoning but no text becomes unterminated reasoning."""
    text = reply.text.strip()
    if reply.reasoning and not text:
        return Answer(unended(reply.reasoning), reply.tokens, False)
    return Answer(text, reply.tokens, reply.finished, reply.reasoning)


@cache
def client_of(endpoint: Endpoint, budget: Budget) -> Client:
    """Cached client of an endpoint and budget: a reward calls it at every step, and its reply cache is read once."""
    return Client(endpoint, budget)


def body(endpoint: Endpoint, request: Request) -> Row:
    """Request body: exactly the fields that determine the reply. At temperature 0 the seed is left out."""
    sampling = request.sampling
    sent = {
        "model": endpoint.model,
        "messages": request.messages,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        endpoint.limit: sampling.max_new_tokens,
    }
    if sampling.temperature:
        sent["seed"] = sampling.seed
    if request.schema:
        sent["response_format"] = response_format(request.schema)
    return {name: value for name, value in {**sent, **endpoint.extra}.items() if value is not None}


def reply_of(row: Row) -> Reply:
    """Convert a cache row to a reply. A reply without text is unfinished, even if an older cache recorded otherwise."""
    text = _writable(row["text"])
    finished = row["finished"] and bool(text.strip())
    return Reply(text, row["prompt_tokens"], row["tokens"], finished, reasoning=_writable(row.get("reasoning", "")))


def _writable(text: str) -> str:
    """Replace unpaired surrogates, which JSON allows and UTF-8 does not, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def seeded(conversations: list[Messages], sampling: Sampling) -> list[Request]:
    """Make a request for each conversation, with its own seed; the n-th copy of a conversation is its n-th sample.

    The seed, in [0, 2^31), is derived from the sampling's seed, the conversation and n, and not from the list position.
    So adding or removing a row changes no other row's seed. At temperature 0 all samples are equal and are sent once.
    """
    met: Counter[str] = Counter()
    requests = []
    for messages in conversations:
        content = json.dumps(messages, sort_keys=True)
        draw = f"{sampling.seed} {met[content] if sampling.temperature else 0} {content}"
        met[content] += 1
        seed = int.from_bytes(hashlib.sha256(draw.encode()).digest()[:4], "big") >> 1
        requests.append(Request(messages, replace(sampling, seed=seed)))
    return requests


def _read(reply: Reply, schema: type[Config]) -> tuple[Reply, str]:
    """Parse the reply's object. Return the reply with it and "", or the unchanged reply and the error."""
    try:
        return replace(reply, value=read_object(reply.text, schema)), ""
    except ValueError as error:
        return reply, str(error)


def _repair(request: Request, reply: Reply, error: str) -> Request:
    schema = json.dumps(request.schema.model_json_schema() if request.schema else {})
    repair = {"role": "user", "content": REPAIR.format(error=error, schema=schema)}
    said = {"role": "assistant", "content": answer_of(reply.text)}
    return replace(request, messages=[*request.messages, said, repair])
