"""Structured output: the JSON Schema sent to a server, and validation of the reply against it."""

import re
from typing import TypeVar

from pydantic import ValidationError

from ladder.data.jsonl import Row
from ladder.data.strict_json import parse_json
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of

S = TypeVar("S", bound=Config)


def response_format(schema: type[Config]) -> Row:
    """Build the `response_format` field of a chat completion request from a schema."""
    form = {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True}
    return {"type": "json_schema", "json_schema": form}


def read_object(text: str, schema: type[S]) -> S:
    """Parse a reply that is one JSON object; reasoning before it and one Markdown code block around it are allowed.

    Errors: ValueError with the problems, worded for the model that wrote the reply.
    """
    text = answer_of(text)
    block = re.fullmatch(r"\s*(`{3,}|~{3,})[ \t]*(?:json)?[ \t]*\n(.*?)\n\s*\1\s*", text, re.DOTALL | re.IGNORECASE)
    value = parse_json(block[2] if block else text)
    try:
        return schema.model_validate(value, strict=True)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, item['loc'])) or 'the reply'}: {item['msg']}" for item in error.errors())
        raise ValueError("; ".join(faults)) from None
