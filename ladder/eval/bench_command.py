"""Command `ladder bench`: ask a model that is no rung of the report a benchmark, score it, and print JSON.

    ladder bench ifeval --model models/sft/chat                          # a rung's folder
    ladder bench ifeval --model http://localhost:8000/v1 --name MODEL    # an OpenAI-compatible endpoint

The generation settings and the judge are those of params.yaml, as for every rung: answer.ifeval and benchmark.ifeval.
"""

import re
import sys
from pathlib import Path

from ladder.data.jsonl import Row, write_rows
from ladder.eval.ask import Asking, answer_questions
from ladder.eval.score_command import BASE, entry, read, scored
from ladder.eval.stratified import order
from ladder.inference.endpoint import Endpoint
from ladder.inference.engines import EndpointEngine, Engine, EngineSettings, answering, open_engine
from ladder.models.rung import read_rung
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import PARAMS, UserError, fit, read_params


def bench(
    benchmark: str,
    model: str,
    name: str | None = None,
    task: Path | None = None,
    *,
    key_env: str | None = None,
    insecure: bool = False,
) -> Row:
    """Run `ladder bench`: generate a model's answers, save them, and return their scores.

    model: folder of a rung, or URL of an endpoint; name: the model's name there. Errors: UserError.
    """
    found, questions = read(benchmark, task)
    params = entry(Asking, "answer", found.name)
    if params.rows > len(questions):
        raise UserError(
            f"{PARAMS}: answer.{found.name}.rows: expected at most {len(questions)} questions, got {params.rows}"
        )
    chosen = order(questions, seed=read_params().get("questions", {}).get("seed", 0))[: params.rows or None]
    called, engine = opened(params, model, name, key_env=key_env, insecure=insecure)
    turns = [{"key": question.key, "turns": list(question.turns)} for question in chosen]
    rows = answer_questions(turns, answering(engine, progress=f"bench {called}"), params)
    path = kept(found.name, called)
    write_rows(path, rows)
    print(f"answers are in {path}; `ladder score {found.name} {path}` scores them again", file=sys.stderr)
    return {"model": called, **scored(found, questions, rows, path)}


def opened(
    params: EngineSettings, model: str, name: str | None, *, key_env: str | None = None, insecure: bool = False
) -> tuple[str, Engine]:
    """Return the model's name and its engine: the endpoint at an address, else the rung with the engine of `params`."""
    if re.match(r"https?://", model):
        if name is None:
            raise UserError(f"--name: missing; expected the model's name at {model}")
        section = {"base_url": model, "model": name, "key_env": key_env, "insecure": insecure}
        return name, EndpointEngine(fit(Endpoint, section, "--model"))
    refuse_no_rung(Path(model))
    rung = read_rung(Path(model)).rung
    return name or rung, open_engine(params.of_rung(rung), Path(model), BASE)


def refuse_no_rung(directory: Path) -> None:
    """Refuse a folder without rung.json, and name the nearest rung in models/. Errors: UserError."""
    if not (directory / "rung.json").is_file():
        there = sorted(str(record.parent) for record in Path("models").rglob("rung.json"))
        near = (
            did_you_mean(directory, there) or f"; expected one of {', '.join(there) or 'none, as models/ has no rung'}"
        )
        raise UserError(f"--model: {directory}: not a rung (no rung.json), nor a URL{near}")


def kept(benchmark: str, name: str) -> Path:
    """Return the path where a model's answers are saved: data/bench/ifeval/org-model.jsonl."""
    return Path("data/bench", benchmark, f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name).strip('.-') or 'model'}.jsonl")
