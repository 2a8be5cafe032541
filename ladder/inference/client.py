"""The one client of OpenAI-compatible endpoints: for generation, synthesis and judges. No reply is bought twice.

    client = Client(endpoint, Budget(tokens=2_000_000))
    replies = client.ask([Request(messages, sampling)], progress="synthesize chat")      # list[Reply | None]
    replies = client.ask([Request(messages, sampling, Verdict)], progress="judge")       # reply.value is a Verdict

Every reply is kept in a store (ladder.inference.request_cache) as soon as it is there, by the sha256 of the body that
is sent: model, messages, temperature, top_p, max_tokens, response_format, what the endpoint has as `extra`, and a seed
where there is something to draw. So a run that was killed, that spent its budget, or whose rows have changed, goes on
and asks for what it lacks, and what two stages ask alike at temperature 0 is bought once. The address is not part of
it: a server that comes up on another port or another node, as under Slurm, has the same weights under the same name,
and nothing is bought again. Each reply keeps the address where it was bought, and a run says when some came from
another than its own. Requests that are to differ (samples of one prompt) need seeds that differ: `seeded` gives them.
"""

import hashlib
import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from ladder.data.jsonl import Row
from ladder.inference.endpoint import UNBOUNDED, Bought, Budget, Endpoint
from ladder.inference.request_cache import content_key, store_of
from ladder.inference.sender import RequestSender
from ladder.inference.structured_output import read_object, response_format
from ladder.inference.types import Answer, Sampling
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of, unended

if TYPE_CHECKING:  # ladder.chat.encode imports transformers
    from ladder.chat.encode import Messages

REPAIR = (
    "That is not the JSON object that was asked for: {error}. Reply with the corrected JSON object and nothing else. "
    "Its JSON Schema: {schema}"
)


@dataclass(frozen=True)
class Request:
    """One conversation that a model is to answer; with `schema`, by one JSON object of it."""

    messages: "Messages"
    sampling: Sampling = Sampling()
    schema: type[Config] | None = None


@dataclass(frozen=True)
class Reply:
    """What was said: the text, what it took in tokens, and whether it is a whole answer: it has a text, and was not cut
    at the limit or by a content filter."""

    text: str
    prompt_tokens: int
    tokens: int
    finished: bool
    value: Any = None
    """The object of the request's schema."""
    reasoning: str = ""
    """What the server sent apart as reasoning. The text has none of it."""


class Client:
    """A client of one endpoint, with the store of its model's replies. The budget holds from its making to its end."""

    def __init__(self, endpoint: Endpoint, budget: Budget) -> None:
        self.endpoint, self.budget = endpoint, budget
        self.buyer = RequestSender(endpoint, budget)
        self.store = store_of(endpoint.model)
        self.repaired = self.rejected = 0
        """Replies that were no object of their schema, and became one when asked again; that did not."""

    @property
    def bought(self) -> Bought:
        """What was bought so far: requests and tokens. It is 0 where all was in the store: it goes into no output."""
        return self.buyer.bought

    def ask(self, requests: list[Request], *, progress: str) -> list[Reply | None]:
        """The replies, in the order of the requests; what the store lacks is bought, the same request once.

        None where there is no reply: the request is longer than the model's context or refused for what it is about;
        or it failed for good: no try had a reply, or with a schema, what was written is no object of it, and neither
        was the second try, which was shown the error. Errors: UserError when the endpoint cannot be had, the budget is
        spent, or more than the share `most_failed` of all requests have failed; what was bought is kept.
        """
        replies, wrong = self.objects(requests, progress=progress)
        for index, error in wrong.items():
            replies[index] = None
            self.buyer.fail(f"wrote no JSON object that was asked for: {error}")
        return replies

    def objects(self, requests: list[Request], *, progress: str) -> tuple[list[Reply | None], dict[int, str]]:
        """The replies as they are, and by its place what is wrong with each that is no object of its schema, which is
        not held against `most_failed`: for a caller who counts these. Errors: as `ask`."""
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
            self._tell(f"{len(repairs)} replies were not of their schema; {mended} are, when asked again", progress)
        return replies, wrong

    def _replies(self, requests: list[Request], progress: str) -> list[Reply | None]:
        bodies = [body(self.endpoint, request) for request in requests]
        keys = [content_key(**one) for one in bodies]
        wanted = dict(zip(keys, bodies, strict=True))
        missing, failed = self._missing(wanted), self.buyer.failed
        self.buyer.wanted += len(wanted)
        self._tell(f"{len(wanted)} requests, {len(wanted) - len(missing)} answered before", progress)
        if missing:
            with self.store.alone(tell=bool(progress)):
                self._buy(self._missing(missing), len(wanted), progress)
        rows = {key: self.store[key] for key in wanted if key in self.store}
        self._tell_of(rows, len(wanted), self.buyer.failed - failed, progress)
        return [reply_of(rows[key]) if key in rows else None for key in keys]

    def _buy(self, missing: dict[str, Row], wanted: int, progress: str) -> None:
        before = wanted - len(missing)
        with tqdm(total=wanted, initial=before, desc=progress, unit="reply", disable=not progress) as bar:
            self.buyer.buy(missing, self.store.add, bar)

    def _missing(self, wanted: dict[str, Row]) -> dict[str, Row]:
        return {key: one for key, one in wanted.items() if key not in self.store}

    def _tell_of(self, rows: dict[str, Row], wanted: int, failed: int, progress: str) -> None:
        own = self.endpoint.base_url
        for address, count in sorted(Counter(row["base_url"] for row in rows.values()).items()):
            if address != own:
                self._tell(f"{count} of the replies were bought at {address}, not {own}", progress)
        if without := wanted - len(rows) - failed:
            self._tell(f"{without} requests have no reply{self._causes()}", progress)
        if empty := sum(not row["text"].strip() for row in rows.values()):
            self._tell(f"{empty} replies have no text, and count as unfinished", progress)
        for reason, count in sorted(self.buyer.unknown.items()):
            self._tell(f"{count} replies ended with the unknown reason {reason!r}, and count as unfinished", progress)
        self.buyer.unknown.clear()
        if failed:
            last = self.buyer.last_failure
            self._tell(f"{failed} requests failed and are asked again by a further run; the last: {last}", progress)

    def _causes(self) -> str:
        """Why requests have no reply, counted since the last call, and what the server last said to each kind."""
        kinds, self.buyer.without = self.buyer.without, {}
        counts = ", ".join(f"{len(causes)} {kind}" for kind, causes in kinds.items())
        return f": {counts}; the server {', '.join(causes[-1] for causes in kinds.values())}" if kinds else ""

    def _tell(self, sentence: str, progress: str) -> None:
        if progress:  # not on stdout, which may be a command's result
            print(f"{self.endpoint.model}: {sentence}", file=sys.stderr, flush=True)


def ask(
    endpoint: Endpoint,
    conversations: "list[Messages]",
    sampling: Sampling,
    *,
    progress: str,
    budget: Budget = UNBOUNDED,
) -> list[Answer]:
    """Let an OpenAI-compatible server answer each conversation; results stand in the order given.

    The same conversation given n times has n samples. Where there is no reply the answer is empty and
    unfinished. Budgets hold for the process. Errors: UserError when the server cannot be reached, refuses the request,
    or the budget is spent.
    """
    replies = client_of(endpoint, budget).ask(seeded(conversations, sampling), progress=progress)
    return [Answer("", 0, False) if reply is None else _answer(reply) for reply in replies]


def _answer(reply: Reply) -> Answer:
    """A reply as an answer; one of reasoning alone is reasoning that never ended."""
    text = reply.text.strip()
    if reply.reasoning and not text:
        return Answer(unended(reply.reasoning), reply.tokens, False)
    return Answer(text, reply.tokens, reply.finished, reply.reasoning)


@cache
def client_of(endpoint: Endpoint, budget: Budget) -> Client:
    """The process's one client of an endpoint: a reward asks it at every step, and its store is read once."""
    return Client(endpoint, budget)


def body(endpoint: Endpoint, request: Request) -> Row:
    """What is sent for a request: all that decides the reply, and nothing else. At temperature 0 no seed does."""
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
    """A reply as the store has it. One without a text is not finished, whatever an older store says."""
    text = _writable(row["text"])
    finished = row["finished"] and bool(text.strip())
    return Reply(text, row["prompt_tokens"], row["tokens"], finished, reasoning=_writable(row.get("reasoning", "")))


def _writable(text: str) -> str:
    """Half a surrogate pair, which JSON takes and UTF-8 does not, becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def seeded(conversations: "list[Messages]", sampling: Sampling) -> list[Request]:
    """A request for each conversation, with a seed of its own: the n-th of the same conversation is its n-th sample.

    The seed [0, 2^31) is drawn from the sampling's seed, the conversation and n, not from the place in the list: a row
    more or less changes no other's. At temperature 0 all samples are one, and are bought once.
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
    """The reply with its object; or as it is, and what is wrong."""
    try:
        return replace(reply, value=read_object(reply.text, schema)), ""
    except ValueError as error:
        return reply, str(error)


def _repair(request: Request, reply: Reply, error: str) -> Request:
    schema = json.dumps(request.schema.model_json_schema() if request.schema else {})
    told = {"role": "user", "content": REPAIR.format(error=error, schema=schema)}
    said = {"role": "assistant", "content": answer_of(reply.text)}
    return replace(request, messages=[*request.messages, said, told])
