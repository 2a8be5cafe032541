"""Synthesize new instructions from seed instructions with a model; stage generate then answers these prompts.

python -m stages.synthesize evolved prompts/evolve data/prompts.jsonl models/base models/base \
    data/synthesize/evolved.jsonl data/synthesize/evolved.rejected.jsonl metrics/synthesize/evolved.json

Each new prompt records its origin. The prompt templates of a method are in prompts/<method>/*.txt. The same seed and
replies give the same bytes. A seed decides every request, so a run that was killed or has spent its budget sends only
the missing requests to the endpoint.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from ladder.chat.rendering import Messages
from ladder.data.jsonl import write_json, write_rows
from ladder.inference.endpoint import served_by
from ladder.inference.engines import EngineSettings, answering, open_engine
from ladder.inference.types import Answer, Generate, Sampling
from ladder.pipeline.stage import UserError, run
from ladder.synthesis.evol_instruct import evolve
from ladder.synthesis.persona import Personas, persona
from ladder.synthesis.pool import Harvest, Plan, read_instructions
from ladder.synthesis.self_instruct import self_instruct
from ladder.verifiers.reasoning import strip_reasoning


class Params(EngineSettings):
    method: Literal["self_instruct", "evolve", "persona"]
    """Synthesis method. Its module in ladder/ names the paper; its prompt templates are in prompts/."""
    model: str = "base"
    """Rung that writes: `base`, `sft/chat`. Leave it out with an endpoint."""
    seeds: str
    """File under data/ with the seed instructions: `prompts`, `source/seed_tasks`."""
    split: str | None
    """Split of the seeds, by their column `split`; null takes all. New instructions belong to the same split."""
    count: int = Field(ge=1)
    """Number of instructions wanted. Rounds stop once it is reached; extra ones of the last round are kept."""
    rounds: int = Field(ge=1)
    """Maximum number of rounds; each round uses the results of earlier ones."""
    batch: int = Field(ge=1)
    """Requests per round: examples shown, instructions that evolve, personas."""
    novelty: float | None = Field(gt=0, le=1)
    """ROUGE-L threshold, in (0, 1]: a text this similar to a seed or an earlier text is rejected. Self-Instruct uses
    0.7. Null rejects only identical texts and suits evolve, whose in-depth evolution keeps its parent's words."""
    operations: list[str] = []
    """Operations of evolve: prompts/evolve/<operation>.txt, drawn evenly."""
    personas: Personas | None = None
    """Personas of method persona: lines of its file (`listed`), the seeds' authors (`inferred`), or their acquaintances
    (`related`)."""
    temperature: float = Field(ge=0)
    """Sampling temperature; 0 is greedy decoding."""
    top_p: float = Field(gt=0, le=1)
    """Nucleus sampling: share of the probability mass to sample from; 1 samples from all tokens."""
    max_new_tokens: int = Field(ge=1)
    """Maximum length in tokens; a text that has not ended by then is rejected."""
    seed: int
    """Seed of sampling and of the requests."""

    @model_validator(mode="after")
    def belong(self) -> "Params":
        """Check that method-specific keys belong to the method."""
        for name, method in (("operations", "evolve"), ("personas", "persona")):
            if bool(getattr(self, name)) != (self.method == method):
                raise ValueError(f"{name}: expected with method {method} only")
        return self


class Counted:
    """Wrapper of a generation function that counts requests and tokens.

    An empty list of conversations makes no request: rules may have removed all of them.
    """

    def __init__(self, generate: Generate) -> None:
        self.generate = generate
        self.requests = self.tokens = 0

    def __call__(self, conversations: list[Messages], sampling: Sampling) -> list[Answer]:
        said = [_answered(one) for one in self.generate(conversations, sampling)] if conversations else []
        self.requests += len(said)
        self.tokens += sum(one.tokens for one in said)
        return said


def _answered(said: Answer) -> Answer:
    """Strip the reasoning; an answer whose reasoning never ended is unfinished."""
    text, ended = strip_reasoning(said.text)
    return Answer(text, said.tokens, said.finished and ended)


def make(params: Params, generate: Generate, prompts: Path, seeds: Path, name: str) -> Harvest:
    """Run all rounds of the method."""
    begin = read_instructions(seeds, params.split)
    sampling = Sampling(params.temperature, params.top_p, params.max_new_tokens, params.seed)
    settings = params.method, params.count, params.rounds, params.batch, params.novelty, params.split
    plan = Plan(name, *settings, sampling, served_by(params.endpoint))
    if params.method == "evolve":
        return evolve(generate, prompts, begin, plan, params.operations)
    if params.personas:
        return persona(generate, prompts, begin, plan, params.personas)
    return self_instruct(generate, prompts, begin, plan)


def main(
    params: Params, prompts: Path, seeds: Path, model: Path, base: Path, output: Path, ledger: Path, metrics: Path
) -> None:
    """Generate instructions from `seeds`; write new rows to `output` and rejected texts to `ledger`.

    prompts: folder of the method's prompt templates. metrics: JSON with counts of rows, requests and tokens.
    Errors: UserError when no row is left.
    """
    generate = Counted(answering(open_engine(params, model, base), progress=f"synthesize {output.stem}"))
    harvest = make(params, generate, prompts, seeds, output.stem)
    write_rows(ledger, harvest.rejected)
    if not harvest.rows:
        taken = ", ".join(f"{name} {count}" for name, count in harvest.counts()["rejected"].items())
        raise UserError(f"{output}: no row is left: {taken}. See the texts and reasons in {ledger}.")
    write_rows(output, harvest.rows)
    asked = {"requests": generate.requests, "tokens": generate.tokens}
    write_json(metrics, {**harvest.counts(), **asked, **served_by(params.endpoint)})


if __name__ == "__main__":
    run(main, named=True)
