"""Answers to conversations: in process from a rung, or from any OpenAI-compatible endpoint."""

import asyncio
import os
from dataclasses import dataclass

import openai
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from ladder.chat import Messages, prompt_tokens
from ladder.decode import Completion, decode
from ladder.models import Model
from ladder.run import Refused, Section
from ladder.sampling import Sampling


@dataclass(frozen=True)
class Answer:
    """What was said: the text, its length in tokens, and whether it ended by itself (not cut at the limit)."""

    text: str
    tokens: int
    finished: bool


class Endpoint(Section):
    base_url: str
    """Where the server answers: `http://localhost:8000/v1`. The key comes from OPENAI_API_KEY, never from here."""
    model: str
    """The model's name there."""
    concurrency: int = 16
    """Requests under way at once."""
    timeout: float = 120.0
    """Seconds until a request is tried again."""
    retries: int = 6
    """How often a request that met 429, 5xx or a timeout is tried again, with backoff."""


def answer(model: Model, conversations: list[Messages], sampling: Sampling, *, progress: str) -> list[Answer]:
    """Let a rung answer each conversation; results stand in the order given."""
    prompts = [prompt_tokens(model.tokenizer, messages) for messages in conversations]
    completions = decode(model.model, prompts, sampling, stop=[model.stop], progress=progress)
    return spoken(model.tokenizer, completions)


def spoken(tokenizer: PreTrainedTokenizerBase, completions: list[Completion]) -> list[Answer]:
    """Tokens as answers, alike for every engine whose tokens we are given."""
    texts = tokenizer.batch_decode([item.tokens for item in completions], skip_special_tokens=True)
    return [
        Answer(text.strip(), len(item.tokens), item.finished) for text, item in zip(texts, completions, strict=True)
    ]


def ask(endpoint: Endpoint, conversations: list[Messages], sampling: Sampling, *, progress: str) -> list[Answer]:
    """Let an OpenAI-compatible server answer each conversation; results stand in the order given.

    Errors: Refused when it cannot be reached, refuses the request, or answers without a text.
    """
    return asyncio.run(_ask_all(endpoint, conversations, sampling, progress))


async def _ask_all(
    endpoint: Endpoint, conversations: list[Messages], sampling: Sampling, progress: str
) -> list[Answer]:
    slots = asyncio.Semaphore(endpoint.concurrency)
    bar = tqdm(total=len(conversations), desc=progress, unit="answer", disable=not progress)
    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=os.environ.get("OPENAI_API_KEY", "none"),
        timeout=endpoint.timeout,
        max_retries=endpoint.retries,
    )

    async def one(index: int, messages: Messages) -> Answer:
        async with slots:
            reply = await _ask_one(client, endpoint, messages, sampling, sampling.seed + index)
            bar.update()
            return reply

    try:
        async with client, asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(index, messages)) for index, messages in enumerate(conversations)]
    except* Refused as refusals:
        raise refusals.exceptions[0] from None
    finally:
        bar.close()
    return [task.result() for task in tasks]


async def _ask_one(
    client: openai.AsyncOpenAI, endpoint: Endpoint, messages: Messages, sampling: Sampling, seed: int
) -> Answer:
    try:
        reply = await client.chat.completions.create(
            model=endpoint.model,
            messages=messages,  # type: ignore[arg-type]
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=sampling.max_new_tokens,
            seed=seed,
        )
    except openai.APIConnectionError as error:
        raise Refused(f"endpoint {endpoint.base_url} cannot be reached: {error.__cause__ or error}") from None
    except openai.APIStatusError as error:
        raise Refused(f"endpoint {endpoint.base_url} answered {error.status_code}: {error.message[:200]}") from None
    except ValueError as error:
        raise Refused(f"endpoint {endpoint.base_url} answered with something that is not JSON: {error}") from None
    if not getattr(reply, "choices", None) or reply.choices[0].message.content is None:
        raise Refused(f"endpoint {endpoint.base_url} answered without a text")
    choice = reply.choices[0]
    spent = reply.usage.completion_tokens if reply.usage else 0
    return Answer((choice.message.content or "").strip(), spent, choice.finish_reason == "stop")
