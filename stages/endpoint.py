"""A model behind an OpenAI-compatible endpoint as a rung: it is asked and scored like every other, and has no weights.

A teacher behind an API and its student then share one table and one page: add `endpoint/NAME` to report.rungs. The
stages that only ask a model take it too (`generate`, `preferences`, `synthesize`, `heldout`).

python -m stages.endpoint gpt models/endpoint/gpt metrics/endpoint/gpt.json
"""

from pathlib import Path

from ladder.data.jsonl import write_json
from ladder.inference.endpoint_rung import EndpointRung, write_endpoint_rung
from ladder.models.rung import rung_name
from ladder.pipeline.stage import run


class Params(EndpointRung):
    """A server with one of its models."""


def main(params: Params, output: Path, metrics: Path) -> None:
    """Write the rung, and its record without costs. Nothing is asked."""
    rung = write_endpoint_rung(output, rung_name(output), params)
    write_json(metrics, {"method": rung.method, "parent": "", "parameters": 0, "trainable_parameters": 0})


if __name__ == "__main__":
    run(main, named=True)
