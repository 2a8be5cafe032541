"""Persona-driven instruction synthesis: the model writes instructions as different people would ask.

The method is Chan et al. 2024, "Scaling Synthetic Data Creation with 1,000,000,000 Personas", arXiv:2406.20094.
Personas come from one of three sources: the lines of prompts/persona/personas.txt (`listed`), the likely author of a
seed instruction (`inferred`: text-to-persona), or people related to earlier personas, starting from the list
(`related`: persona-to-persona). Each persona gives one instruction, requested without examples.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ladder.data.prompt_templates import fill, read_lines, read_template
from ladder.inference.types import Answer, Generate
from ladder.synthesis.pool import Harvest, Instruction, Origin, Plan, tidy, user
from ladder.synthesis.rouge import Pool

Personas = Literal["listed", "inferred", "related"]
SAME_PERSON = 0.9
"""ROUGE-L threshold for duplicate personas. The paper applies this threshold to MinHash and embeddings."""


@dataclass(frozen=True)
class Persona:
    """Description of a person, with its provenance."""

    text: str
    parents: tuple[str, ...] = ()
    """Id of the seed from which the persona was inferred."""
    related_to: str | None = None
    """Text of the persona from which this one was derived."""

    def origin(self, operation: str, round_: int) -> Origin:
        more = {"persona": self.text} | ({"related_to": self.related_to} if self.related_to else {})
        return Origin(operation, round_, list(self.parents), more)


def persona(generate: Generate, prompts: Path, seeds: list[Instruction], plan: Plan, personas: Personas) -> Harvest:
    """Run rounds of `batch` personas until `count` instructions are made, or no personas are left."""
    instruct = read_template(prompts / "instruct.txt", {"persona"})
    infer = read_template(prompts / "infer.txt", {"text"})
    relate = read_template(prompts / "relate.txt", {"persona"})
    everyone = [] if personas == "inferred" else [Persona(text) for text in read_lines(prompts / "personas.txt")]
    harvest, pool = Harvest(plan, seeds), Pool()
    for known in everyone:
        pool.add(f"the list's {known.text!r}", known.text)
    for round_ in range(1, plan.rounds + 1):
        start, end = (round_ - 1) * plan.batch, round_ * plan.batch
        if personas == "listed":
            met = everyone[start:end]
            exhausted = not met
        elif personas == "inferred":
            asked = {Persona("", parents=(seed.id,)): fill(infer, {"text": seed.text}) for seed in seeds[start:end]}
            met, exhausted = _described(generate, harvest, pool, asked, round_, "infer"), not asked
        else:
            drawn = plan.chance(round_).sample(everyone, min(plan.batch, len(everyone)))
            asked = {Persona("", related_to=one.text): fill(relate, {"persona": one.text}) for one in drawn}
            met, exhausted = _described(generate, harvest, pool, asked, round_, "relate"), False
            everyone += met
        if exhausted:
            break
        _instructed(generate, harvest, met, instruct, round_)
        if harvest.full:
            break
    return harvest


def _described(
    generate: Generate, harvest: Harvest, pool: Pool, asked: dict[Persona, str], round_: int, operation: str
) -> list[Persona]:
    """New personas described by the model. Each of `asked` is a persona without its text, with the request for it."""
    met = []
    replies = generate([user(text) for text in asked.values()], harvest.plan.drawn(round_, operation))
    for blank, said in zip(asked, replies, strict=True):
        described = replace(blank, text=tidy(said.text))
        if reason := _objection(pool, said, described.text):
            harvest.reject("persona", reason, described.text, described.origin(operation, round_))
        else:
            pool.add(repr(described.text), described.text)
            met.append(described)
    return met


def _objection(pool: Pool, said: Answer, text: str) -> str | None:
    """Reason to reject a persona description: truncated, not one paragraph, or a near-duplicate; None if it is new."""
    if not said.finished:
        return f"not finished after {said.tokens} tokens"
    if not text or "\n" in text:
        return "not one paragraph"
    score, nearest = pool.nearest(text)
    return f"{score:.2f} ROUGE-L with {nearest}" if score >= SAME_PERSON else None


def _instructed(generate: Generate, harvest: Harvest, met: list[Persona], instruct: str, round_: int) -> None:
    requests = [user(fill(instruct, {"persona": one.text})) for one in met]
    for one, said in zip(met, generate(requests, harvest.plan.drawn(round_, "instruct")), strict=True):
        harvest.offer(said, tidy(said.text), one.origin("instruct", round_))
