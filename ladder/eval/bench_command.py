"""Command `ladder bench`: ask a model that is no rung of the report a benchmark, score it, and print JSON.

    python -m ladder bench ifeval --model models/sft/chat                          # a rung's directory
    python -m ladder bench ifeval --model http://localhost:8000/v1 --name MODEL    # an OpenAI-compatible endpoint

The generation settings and the judge are those of params.yaml, as for every rung: respond.ifeval and benchmark.ifeval.
"""

import argparse
import re
import sys
from pathlib import Path

from ladder.data.jsonl import write_rows
from ladder.eval.ask import Asking, Speak, respond
from ladder.eval.score_command import BASE, add_benchmark, entry, print_json, read, scored
from ladder.eval.stratified import order
from ladder.inference.answer_cache import Speaker
from ladder.inference.client import ask
from ladder.inference.endpoint import Endpoint
from ladder.pipeline.stage import PARAMS, UserError, fit, read_params


def bench(arguments: list[str]) -> None:
    """Run `ladder bench`: generate a model's answers, save them, and print their scores."""
    parser = argparse.ArgumentParser(prog="python -m ladder bench", description="Ask a model and score its answers.")
    add_benchmark(parser)
    parser.add_argument("--model", required=True, help="a rung's directory, or http://HOST/v1")
    parser.add_argument("--name", help="the model's name at the endpoint")
    parser.add_argument("--key-env", help="the environment variable of the endpoint's key; see docs/servers.md")
    parser.add_argument("--insecure", action="store_true", help="allow http to another machine")
    options = parser.parse_args(arguments)
    found, questions = read(options.benchmark, options.task)
    params = entry(Asking, "respond", found.name)
    if params.rows > len(questions):
        raise UserError(
            f"{PARAMS}: respond.{found.name}.rows: expected at most {len(questions)} questions, got {params.rows}"
        )
    chosen = order(questions, seed=read_params().get("questions", {}).get("seed", 0))[: params.rows or None]
    name, speak = speaker(options.model, options.name, key_env=options.key_env, insecure=options.insecure)
    turns = [{"key": question.key, "turns": list(question.turns)} for question in chosen]
    rows, path = respond(turns, speak, params), kept(found.name, name)
    write_rows(path, rows)
    print(f"answers: {path}; `python -m ladder score {found.name} {path}` scores them again", file=sys.stderr)
    print_json({"model": name, **scored(found, questions, rows, path)})


def speaker(model: str, name: str | None, *, key_env: str | None = None, insecure: bool = False) -> tuple[str, Speak]:
    """Return the model's name and its generation function."""
    if re.match(r"https?://", model):
        if name is None:
            raise UserError(f"--name: missing; expected the model's name at {model}")
        section = {"base_url": model, "model": name, "key_env": key_env, "insecure": insecure}
        endpoint = fit(Endpoint, section, "--model")
        return name, lambda conversations, sampling: ask(endpoint, conversations, sampling, progress=f"bench {name}")
    rung = Speaker(Path(model), BASE)
    called = name or rung.rung.rung
    return called, lambda asked, sampling: list(rung.answers(asked, sampling, progress=f"bench {called}"))


def kept(benchmark: str, name: str) -> Path:
    """Return the path where a model's answers are saved: data/bench/ifeval/org-model.jsonl."""
    return Path("data/bench", benchmark, f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-') or 'model'}.jsonl")
