"""Replies that are one JSON object of a schema: what a server is asked for, and the check of what it wrote."""

import re
from typing import TypeVar

from pydantic import ValidationError

from ladder.data.jsonl import Row, parse_json
from ladder.pipeline.stage import Config
from ladder.verifiers.reasoning import answer_of

S = TypeVar("S", bound=Config)


def response_format(schema: type[Config]) -> Row:
    """The field `response_format` of a chat completion: the JSON Schema that the server is to keep to."""
    form = {"name": schema.__name__, "schema": schema.model_json_schema(), "strict": True}
    return {"type": "json_schema", "json_schema": form}


def read_object(text: str, schema: type[S]) -> S:
    """The object that a reply consists of; reasoning before it and one Markdown code block around it are allowed.

    Errors: ValueError saying what is wrong, for the model that wrote it to read.
    """
    text = answer_of(text)
    block = re.fullmatch(r"\s*```(?:json)?\s*\n(.*?)\n\s*```\s*", text, re.DOTALL)
    value = parse_json(block[1] if block else text)
    try:
        return schema.model_validate(value, strict=True)
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, item['loc'])) or 'the reply'}: {item['msg']}" for item in error.errors())
        raise ValueError("; ".join(faults)) from None
