"""Generate a rung's answers to all benchmarks of the report, loading the model once.

python -m stages.answer data/questions models/sft/chat models/base data/answer/sft/chat

Scoring is a separate stage, so scoring again never generates again. Each benchmark is a cell of the output folder, with
a fingerprint of what it was made of (ladder/eval/answer_cells.py). DVC keeps the folder between runs, and `dvc pull`
restores it. So an added benchmark, or a benchmark with other settings, costs only its own answers; a run without new
cells loads no model. A killed run continues with the cell it was at; the decoder continues at the exact token
(ladder/inference/answer_cache.py).
"""

from functools import cache
from pathlib import Path

from pydantic import Field

from ladder.data.jsonl import Row
from ladder.eval.answer_cells import ASKING, changes, engine_name, fingerprint, remove_others, write_cell
from ladder.eval.ask import Asking, answer_questions, read_questions
from ladder.inference.code_hash import code_hash, versions
from ladder.inference.engines import Engine, EngineSettings, answering, open_engine
from ladder.models.rung import read_rung
from ladder.pipeline.stage import PARAMS, Config, UserError, run


class Params(Config, extra="allow"):
    """An entry for each benchmark. `report.benchmarks` lists the benchmarks that are asked."""

    __pydantic_extra__: dict[str, Asking] = Field(init=False)

    @property
    def entries(self) -> dict[str, Asking]:
        return self.__pydantic_extra__


def made_on(engine: str) -> Row:
    """Library versions that the answers of an engine depend on; none for an endpoint."""
    if engine == "endpoint":
        return {}
    return {"libraries": versions(("torch", "transformers", "vllm") if engine == "vllm" else ("torch", "transformers"))}


def device() -> Row:
    """Name of the device that generates."""
    from ladder.models.checkpoint import device_name  # torch, which a run without new cells does not import

    return {"device": device_name()}


def main(params: Params, questions: Path, model: Path, base: Path, output: Path, *, benchmarks: list[str]) -> None:
    """Answer the questions of `benchmarks` where the cell in `output` is not up to date, and delete other cells.

    questions: folder of the benchmarks' questions. output: folder of the answers, one JSON Lines file and one
    fingerprint per benchmark. Errors: UserError for a benchmark without an entry.
    """
    for name in benchmarks:
        if name not in params.entries:
            raise UserError(f"{PARAMS}: report.benchmarks names {name!r}; expected an entry answer.{name}")
    rung = read_rung(model)
    code = cache(lambda engine: code_hash(engine, ASKING))

    @cache
    def opened(settings: EngineSettings) -> Engine:
        return open_engine(settings.of_rung(rung.rung), model, base)

    output.mkdir(parents=True, exist_ok=True)
    for name in remove_others(output, benchmarks):
        print(f"{name}: no longer asked, answers deleted", flush=True)
    for name in benchmarks:
        entry = params.entries[name].of_model(model)
        engine = engine_name(entry)
        asked = read_questions(questions / f"{name}.jsonl", entry.rows)
        made_of = fingerprint(asked, rung.identity, entry, code=code(engine), made_on=made_on(engine))
        differ = changes(output, name, made_of)
        if differ == []:
            print(f"{name}: {len(asked)} questions, answers up to date", flush=True)
            continue
        why = f", changed: {', '.join(differ)}" if differ else ""
        print(f"{name}: {len(asked)} questions{why}", flush=True)
        chosen = EngineSettings(engine=entry.engine, endpoint=entry.endpoint, budget=entry.budget)
        rows = answer_questions(asked, answering(opened(chosen), progress=f"{model}"), entry)
        write_cell(output, name, rows, made_of | ({} if engine == "endpoint" else device()))


if __name__ == "__main__":
    run(main, names={"benchmarks": "report.benchmarks"})
