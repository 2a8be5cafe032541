"""What every method of synthesis shares: seeds, a plan, and the harvest, in which each new text stands or is told why
not. A method is a function of a model's replies, `speak`, and of these; ladder/synthesis/self_instruct.py is the first
one."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ladder.chat.encode import Messages, check_messages
from ladder.data.jsonl import Row, column, of_split, read_rows
from ladder.inference.local import Answer
from ladder.inference.sampling import Sampling
from ladder.pipeline.stage import UserError
from ladder.synthesis.rouge import Pool, words

LENGTH = (4, 150)
"""Words of an instruction, least and most: what Self-Instruct's code keeps (section 2.2, "too long or too short")."""


@dataclass(frozen=True)
class Instruction:
    id: str
    text: str


@dataclass(frozen=True)
class Plan:
    """How much is made, and what the draws depend on."""

    name: str
    """Of the entry in params.yaml: it begins the ids."""
    method: str
    count: int
    rounds: int
    batch: int
    novelty: float | None
    split: str | None
    sampling: Sampling
    served_by: dict[str, str] = field(default_factory=dict)
    """{"model": its name} where an endpoint writes."""

    def chance(self, round_: int) -> random.Random:
        """A generator of the round's own: a longer run draws the same in its first rounds."""
        return random.Random(f"{self.sampling.seed} {round_}")

    def drawn(self, round_: int, step: str) -> Sampling:
        """The sampling of one step of a round, seeded apart from the others': no reply is drawn twice alike."""
        digest = hashlib.sha256(f"{self.sampling.seed} {round_} {step}".encode()).digest()
        return replace(self.sampling, seed=int.from_bytes(digest[:4]) >> 1)


@dataclass(frozen=True)
class Origin:
    """Where a text comes from: an operation upon parents in a round, with what else the method has to tell."""

    operation: str
    round: int
    parents: list[str]
    more: Row


def read_instructions(path: Path, split: str | None) -> list[Instruction]:
    """What is asked first in each row of `prompt` or `messages`; the same text once.

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
    return [{"role": "user", "content": text}]


def tidy(text: str) -> str:
    """The text without blanks at its ends, and without quotation marks around the whole of it."""
    text = text.strip()
    for left, right in ('""', "“”"):
        inside = text[1:-1]
        if len(text) > 1 and text[0] == left and text[-1] == right and left not in inside and right not in inside:
            return inside.strip()
    return text


class Harvest:
    """What has been made, and what was rejected by which rule (`filter`) for which reason."""

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
        """(filter, reason) of the rules that every method shares: `text` is what was made of what was said."""
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
        """Keep the text as an instruction, unless there is an objection."""
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
        """For the metric file: how many were kept, of a hundred that came back, and what each rule took."""
        total = len(self.rows) + len(self.rejected)
        taken = Counter(row["filter"] for row in self.rejected)
        return {
            "kept": len(self.rows),
            "yield": round(100 * len(self.rows) / max(1, total), 2),
            "rejected": dict(sorted(taken.items())),
        }
