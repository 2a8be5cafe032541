"""Shared parts of all synthesis methods: seeds, plan, and the harvest that accepts or rejects new texts.

A method is a function of these and of `generate`, which returns a model's replies. An example is
ladder/synthesis/self_instruct.py.
"""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ladder.chat.encode import Messages, check_messages
from ladder.data.jsonl import Row, column, of_split, read_rows
from ladder.inference.types import Answer, Sampling
from ladder.pipeline.stage import UserError
from ladder.synthesis.rouge import Pool, words

LENGTH = (4, 150)
"""Minimum and maximum words of an instruction, from Self-Instruct's code (section 2.2, "too long or too short")."""


@dataclass(frozen=True)
class Instruction:
    """An instruction text with its id."""

    id: str
    text: str


@dataclass(frozen=True)
class Plan:
    """Size of a synthesis run, and the parameters of its random draws."""

    name: str
    """Name of the entry in params.yaml, and prefix of the ids."""
    method: str
    count: int
    rounds: int
    batch: int
    novelty: float | None
    split: str | None
    sampling: Sampling
    served_by: dict[str, str] = field(default_factory=dict)
    """{"model": name} if an endpoint generates the replies."""

    def chance(self, round_: int) -> random.Random:
        """Random generator of one round. A run with more rounds makes the same draws in its first rounds."""
        return random.Random(f"{self.sampling.seed} {round_}")

    def drawn(self, round_: int, step: str) -> Sampling:
        """Sampling parameters of one step of a round, with its own seed so that no two steps share random draws."""
        digest = hashlib.sha256(f"{self.sampling.seed} {round_} {step}".encode()).digest()
        return replace(self.sampling, seed=int.from_bytes(digest[:4]) >> 1)


@dataclass(frozen=True)
class Origin:
    """Provenance of a text: operation, round, ids of the parents, and method-specific columns."""

    operation: str
    round: int
    parents: list[str]
    more: Row


def read_instructions(path: Path, split: str | None) -> list[Instruction]:
    """Distinct first user messages of the rows of `prompt` or `messages`, ignoring case and whitespace.

    Errors: UserError naming the row.
    """
    rows = of_split(read_rows(path), split, path)
    found: dict[str, Instruction] = {}
    for number, (row, name) in enumerate(zip(rows, column(rows, "id", str, path), strict=True), start=1):
        messages = check_messages(row.get("prompt", row.get("messages")), f"{path}: row {number}")
        asked = next((message["content"] for message in messages if message["role"] == "user"), "").strip()
        if not asked:
            raise UserError(f"{path}: row {number}: expected a message of the user, with a text")
        found.setdefault(" ".join(asked.lower().split()), Instruction(name, asked))
    return list(found.values())


def user(text: str) -> Messages:
    """Conversation with one user message."""
    return [{"role": "user", "content": text}]


def tidy(text: str) -> str:
    """Strip whitespace, and quotation marks that enclose the whole text."""
    text = text.strip()
    for left, right in ('""', "“”"):
        inside = text[1:-1]
        if len(text) > 1 and text[0] == left and text[-1] == right and left not in inside and right not in inside:
            return inside.strip()
    return text


class Harvest:
    """Accepted instructions, and rejected texts with the rule (`filter`) and the reason."""

    def __init__(self, plan: Plan, seeds: Iterable[Instruction]) -> None:
        self.plan = plan
        self.rows: list[Row] = []
        self.rejected: list[Row] = []
        self.pool = Pool()
        for seed in seeds:
            self.pool.add(seed.id, seed.text)

    @property
    def full(self) -> bool:
        return len(self.rows) >= self.plan.count

    def objection(self, said: Answer, text: str) -> tuple[str, str] | None:
        """Apply the rules shared by all methods: completeness, length, exact duplicates, ROUGE-L novelty.

        `said` is the reply, `text` the instruction extracted from it. Returns (filter, reason), or None if it passes.
        """
        if not said.finished:
            return "finished", f"not finished after {said.tokens} tokens"
        count = len(words(text))
        if not LENGTH[0] <= count <= LENGTH[1]:
            return "length", f"{count} words"
        if (twin := self.pool.same(text)) is not None:
            return "exact", f"the same as {twin}"
        if self.plan.novelty is not None:
            score, nearest = self.pool.nearest(text)
            if score >= self.plan.novelty:
                return "novelty", f"{score:.2f} ROUGE-L with {nearest}"
        return None

    def offer(self, said: Answer, text: str, origin: Origin) -> Instruction | None:
        """Accept the text as an instruction if it passes the shared rules; otherwise record its rejection."""
        if objection := self.objection(said, text):
            self.reject(*objection, text, origin)
            return None
        made = Instruction(f"{self.plan.name}-{len(self.rows):05d}", text)
        row: Row = {"id": made.id, "split": self.plan.split, "prompt": user(text), "checks": [], "source": {}}
        row["source"] = {"name": f"synthesize/{self.plan.name}", "row": len(self.rows), **self._source(origin)}
        self.rows.append(row)
        self.pool.add(made.id, text)
        return made

    def reject(self, rule: str, reason: str, text: str, origin: Origin) -> None:
        self.rejected.append(
            {
                "filter": rule,
                "reason": reason,
                "text": text,
                "source": {"name": f"synthesize/{self.plan.name}", **self._source(origin)},
            }
        )

    def _source(self, origin: Origin) -> Row:
        return {
            "method": self.plan.method,
            "operation": origin.operation,
            "round": origin.round,
            "parents": origin.parents,
            **origin.more,
            **self.plan.served_by,
        }

    def counts(self) -> Row:
        """Metrics: number of kept texts, yield in percent of all texts, and rejections per rule."""
        total = len(self.rows) + len(self.rejected)
        taken = Counter(row["filter"] for row in self.rejected)
        return {
            "kept": len(self.rows),
            "yield": round(100 * len(self.rows) / max(1, total), 2),
            "rejected": dict(sorted(taken.items())),
        }
