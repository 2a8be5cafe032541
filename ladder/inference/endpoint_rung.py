"""Rungs behind an endpoint: a model of an OpenAI-compatible server as a row of the table. Imports no torch.

The directory has rung.json and endpoint.json, and no weights. rung.json identifies the model by its name on the server
and by the request fields that decide an answer. endpoint.json has the address, limits, prices and the budget: these
change no answer, so changing them asks nothing again.
"""

from pathlib import Path

from pydantic import Field

from ladder.data.atomic_write import published
from ladder.data.jsonl import read_json, write_json
from ladder.inference.endpoint import UNBOUNDED, Budget, Endpoint
from ladder.models.rung import ENDPOINT_RECORD, Rung, weightless
from ladder.pipeline.config import fit


class EndpointRung(Endpoint):
    """A server with one of its models."""

    budget: Budget = Field(default=UNBOUNDED, exclude_if=lambda budget: budget == UNBOUNDED)
    """Spending limit of one run at the endpoint. At the limit the run stops; the next run continues from its cache."""


def write_endpoint_rung(directory: Path, rung: str, served: EndpointRung) -> Rung:
    """Write a rung without weights. Errors: ValueError for a budget in money without prices."""
    served.budget.check(served)
    made = weightless(rung, "endpoint", served.model_dump(include={"model", "limit", "extra"}))
    with published(directory) as folder:
        address = served.model_dump() | {"key_env": served.key_env, "insecure": served.insecure}
        write_json(folder / ENDPOINT_RECORD, address)
        write_json(folder / "rung.json", made.described())
    return made


def read_endpoint_rung(directory: Path) -> EndpointRung | None:
    """Read the server of a rung behind an endpoint; None for another rung. Errors: UserError for a damaged record."""
    record = directory / ENDPOINT_RECORD
    if not record.is_file():
        return None
    return fit(EndpointRung, read_json(record), str(record))
