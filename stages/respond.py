"""Generate a rung's answers to all benchmarks of the report, loading the model once.

python -m stages.respond code/respond.txt data/questions models/sft/chat models/base data/respond/sft/chat

Scoring is a separate stage, so scoring again never generates again. An answer depends on the model, the question, the
sampling settings and the code. Answers are cached under a hash of these in ${LADDER_WORK}/answers. An added benchmark,
or a benchmark with other settings, costs only its own answers. A killed run resumes with the benchmark it was at; the
engine `process` resumes at the exact token (ladder.inference.answer_cache).
"""

import functools
import hashlib
import json
import shutil
from pathlib import Path
from typing import Literal

import torch
import transformers
from pydantic import Field

from ladder.data.atomic_write import replacing
from ladder.data.jsonl import Row, write_rows
from ladder.eval.ask import Asking, Speak, read_questions, respond
from ladder.inference import vllm_engine
from ladder.inference.answer_cache import Speaker
from ladder.models.checkpoint import device, read_rung
from ladder.pipeline.launch import cache
from ladder.pipeline.stage import PARAMS, Config, UserError, read_params, run


class Entry(Asking):
    """How every rung is asked one benchmark."""

    engine: Literal["process", "vllm"] = "process"
    """Inference engine: `process` is the ladder's own decoder; `vllm` needs vLLM installed."""


class Params(Config, extra="allow"):
    """An entry for each benchmark. Which of them are asked is said by report.benchmarks."""

    __pydantic_extra__: dict[str, Entry] = Field(init=False)

    @property
    def entries(self) -> dict[str, Entry]:
        return self.__pydantic_extra__


def speaker(engine: str, model: Path, base: Path) -> Speak:
    """Load the rung with the engine; return its generation function."""
    if engine == "vllm":
        held = vllm_engine.load(model, base)
        return lambda asked, sampling: vllm_engine.answer(held, asked, sampling, progress=f"{model}")
    rung = Speaker(model, base)
    return lambda asked, sampling: list(rung.answers(asked, sampling, progress=f"{model}"))


def fingerprint(code: Path, model: Path, base: Path, asked: list[Row], entry: Entry) -> str:
    """Return the sha256 over everything that the answers depend on."""
    facts = {
        "code": code.read_text(),
        "libraries": [torch.__version__, transformers.__version__],
        "device": device().type,
        "rungs": [read_rung(path).identity for path in (model, base)],
        "asked": asked,
        "entry": entry.model_dump(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def main(params: Params, code: Path, questions: Path, model: Path, base: Path, output: Path) -> None:
    """Answer the questions of every benchmark of the report, or copy the answers from the cache.

    code: the stage's code list, part of the cache key. questions: folder of the benchmarks' questions. output: folder
    of the answers, one JSON Lines file per benchmark.
    Errors: UserError for a benchmark without an entry.
    """
    loaded = functools.cache(lambda engine: speaker(engine, model, base))
    for name in read_params()["report"]["benchmarks"]:
        if name not in params.entries:
            raise UserError(f"{PARAMS}: report.benchmarks: expected an entry of respond, got {name!r}")
        entry = params.entries[name]
        asked = read_questions(questions / f"{name}.jsonl", entry.rows)
        kept = cache() / "answers" / f"{fingerprint(code, model, base, asked, entry)}.jsonl"
        if kept.exists():
            print(f"{name}: {len(asked)} questions, answers from cache", flush=True)
        else:
            print(f"{name}: {len(asked)} questions", flush=True)
            write_rows(kept, respond(asked, loaded(entry.engine), entry))
        with replacing(output / f"{name}.jsonl") as copy:
            shutil.copyfile(kept, copy)


if __name__ == "__main__":
    run(main)
