"""OpenAI-compatible server of rungs: /v1/models, /v1/chat/completions with and without streaming, and a chat page.

A rung answers one request at a time, and the others wait. An answer ends when its client disconnects. For many users,
export the rung and serve it by vLLM.
"""

import asyncio
import ipaddress
import itertools
import json
import secrets
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import iterate_in_threadpool, run_in_threadpool
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ladder.data.strict_json import parse_json
from ladder.pipeline.errors import UserError
from ladder.ship.chat_request import ChatRequest, Refused, read_request
from ladder.ship.speaker import Piece, Speaker

PAGE = {
    "/": ("chat.html", "text/html"),
    "/chat.css": ("chat.css", "text/css"),
    "/chat.js": ("chat.js", "text/javascript"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
DISCONNECTED = 499
"""Status of a request whose client left before its answer; the number that nginx logs. Nothing receives it."""


def build_app(speakers: list[Speaker], *, max_tokens: int, host: str = "127.0.0.1") -> FastAPI:
    """Build the application. max_tokens: limit of an answer whose request gives none.

    On a loopback address it answers only requests for a loopback name: a page on the web cannot reach it through a
    name of its own.
    """
    app = FastAPI(title="ladder serve", docs_url=None, redoc_url=None, openapi_url=None)
    if is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]", "::1", host])
    rungs = {speaker.name: speaker for speaker in speakers}
    turns = {name: asyncio.Lock() for name in rungs}
    seeds = itertools.count(secrets.randbits(31))
    app.add_exception_handler(Refused, _refusal)
    started = int(time.time())

    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        listed = [{"id": name, "object": "model", "created": started, "owned_by": "ladder"} for name in rungs]
        return {"object": "list", "data": listed}

    @app.get("/v1/models/{name:path}")
    def model(name: str) -> dict[str, Any]:
        return {"id": _known(name, rungs).name, "object": "model", "created": started, "owned_by": "ladder"}

    @app.post("/v1/chat/completions", response_model=None)
    async def completions(request: Request) -> Response:
        asked = read_request(await _body(request))
        speaker = _known(asked.model, rungs)
        try:
            prompt = await run_in_threadpool(speaker.prompt, asked.conversation)
        except UserError as refusal:
            raise Refused("messages", str(refusal).removeprefix("messages: ")) from None
        pieces = speaker.answer(prompt, asked.sampling(max_tokens, next(seeds)), asked.stops)
        head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": speaker.name}
        made = _in_turn(turns[speaker.name], pieces)
        if asked.stream:
            return StreamingResponse(_events(head, made, asked), media_type="text/event-stream")
        whole = await _whole(request, made)
        return JSONResponse(_completion(head, whole)) if whole else Response(status_code=DISCONNECTED)

    for path, (file, kind) in PAGE.items():
        _add_page(app, path, file, kind)
    return app


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _add_page(app: FastAPI, path: str, file: str, kind: str) -> None:
    content = resources.files("ladder.ship").joinpath("static", file).read_text(encoding="utf-8")

    @app.get(path)
    def page() -> Response:
        return Response(content, media_type=kind, headers=HEADERS)


async def _body(request: Request) -> Any:
    """Return the JSON body. Another content type is refused: a web page can send it without asking this server."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused(None, f"Content-Type: expected application/json, got {kind or 'none'}")
    try:
        return parse_json((await request.body()).decode())
    except ValueError as error:
        raise Refused(None, f"the body: expected a JSON object; {error}") from None


def _known(name: str, rungs: dict[str, Speaker]) -> Speaker:
    if name not in rungs:
        raise Refused("model", f"expected {' or '.join(rungs)}, got {name!r}", status=404)
    return rungs[name]


def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    said = {"message": str(error), "type": "invalid_request_error", "param": error.key, "code": None}
    return JSONResponse({"error": said}, status_code=error.status)


def _usage(piece: Piece) -> dict[str, int]:
    counts = {"prompt_tokens": piece.prompt_tokens, "completion_tokens": piece.tokens}
    return {**counts, "total_tokens": piece.prompt_tokens + piece.tokens}


def _completion(head: dict[str, Any], pieces: list[Piece]) -> dict[str, Any]:
    message = {"role": "assistant", "content": "".join(piece.text for piece in pieces)}
    choice = {"index": 0, "message": message, "finish_reason": pieces[-1].finish, "logprobs": None}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(pieces[-1])}


async def _in_turn(turn: asyncio.Lock, pieces: Generator[Piece]) -> AsyncGenerator[Piece]:
    """Yield the pieces of an answer after the earlier answers of the rung. Closing it ends the answer.

    A waiting request holds no thread: if the waiting requests held all threads of the pool, the answer that they wait
    for could not take its next step.
    """
    async with turn:
        try:
            async for piece in iterate_in_threadpool(pieces):
                yield piece
        finally:
            pieces.close()


async def _whole(request: Request, made: AsyncGenerator[Piece]) -> list[Piece]:
    """Return all pieces of an answer; none if the client disconnects before the last."""
    pieces = []
    async with aclosing(made):
        async for piece in made:
            if await request.is_disconnected():
                return []
            pieces.append(piece)
    return pieces


async def _events(head: dict[str, Any], made: AsyncGenerator[Piece], asked: ChatRequest) -> AsyncGenerator[str]:
    """Yield server-sent events: the role, each piece, the finish reason, the usage if asked for, and [DONE]."""
    usage = asked.stream_options is not None and asked.stream_options.include_usage

    def event(choices: list[dict[str, Any]], **more: Any) -> str:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **more}
        return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"

    def choice(delta: dict[str, str], finish: str | None = None) -> list[dict[str, Any]]:
        return [{"index": 0, "delta": delta, "finish_reason": finish}]

    rest = {"usage": None} if usage else {}
    yield event(choice({"role": "assistant", "content": ""}), **rest)
    async with aclosing(made):
        async for piece in made:
            yield event(choice({"content": piece.text} if piece.text else {}, piece.finish), **rest)
            last = piece
    if usage:
        yield event([], usage=_usage(last))
    yield "data: [DONE]\n\n"
