"""Replicas of entries of params.yaml: `report.seeds: 3` makes the rungs of the table with three seeds.

A replica is an entry that params.yaml does not write out. `sft/words+1` is `sft/words` with STRIDE added to every seed,
and with the replicas of its parent and data where these have some:

    sft: {words: {parent: base, data: problems/words, trainer: {seed: 42}}}
    sft: {words+1: {parent: base, data: problems/words+1, trainer: {seed: 1042}}}

The first seed is the entry itself, so a larger `seeds` reruns nothing that exists. An entry has replicas if a rung of
the table needs it, and if it or something that it is made of has a seed. Data of an evaluation has none: every seed is
measured on the same held-out rows, and these never become training rows of another seed.
"""

import copy
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from ladder.pipeline.names import OTHERS, REFERENCES, SINGLE, Fault

SEEDS = "seeds"
"""Key of a table's section: the number of seeds, 1 by default."""
MARK = "+"
"""Joins an entry's name and the number of the replica. Names of params.yaml cannot contain it."""
STRIDE = 1000
"""Difference of two replicas' seeds. With 1, a stage that counts up from its seed could repeat another one's draws."""
TABLES = {"report": ("rungs",), "claims": ("heldout", "accuracy", "divergence")}
"""Lists of rungs that are measured, by the section whose `seeds` applies to them."""
RUNGS = "rungs"
"""Section of links.yaml with the measured rungs of each table and list."""
REPLICATED = (
    "problems", "synthesize", "generate", "filter", "part", "mixture", "prune_layers", "sft", "preferences", "pairs",
    "reference_logprobs", "dpo", "simpo", "orpo", "kto", "reward", "grpo", "rloo", "ppo", "teacher_logits", "distill",
    "distill_features", "gkd", "merge",
)  # fmt: skip
"""Sections whose entries may have replicas. Their stages track the entry of params.yaml that `entry` names."""
OPTIONAL_KEYS = frozenset((table, SEEDS) for table in TABLES)
"""Keys that params.yaml may leave out and a recipe may add."""
DEFAULT_SEEDS = {"pairs": 0}
"""Seeds of sections whose entries may leave them out."""
TRAINER_SEED = 42
"""Default seed of transformers' TrainingArguments."""
SEED_KEYS = frozenset({"seed", "data_seed"})
ROWS = frozenset({"source", "problems", "synthesize", "generate", "filter", "part", "mixture", "preferences", "pairs"})
"""Sections whose entries make rows. The others only add columns to rows, or make models."""
ROW_KEYS = ("data", "prompts", "seeds")
"""Keys of an entry that name the rows that it is made of."""
LINK_KEYS = REFERENCES - {"method"}
"""Keys of an entry whose values name other entries."""


class Entry(NamedTuple):
    """An entry of params.yaml: `sft`, `words`."""

    section: str
    name: str


class Replica(NamedTuple):
    """Replica of an entry: its number from 1 on, and its content."""

    entry: Entry
    number: int
    content: dict[str, Any]

    @property
    def name(self) -> str:
        return numbered(self.entry, self.number)


def numbered(entry: Entry, number: int) -> str:
    """Return the name of an entry's replica; the entry's own name for 0.

    The parts of a mixture's replica are in the folder of its name: `both/own` has the replica `both+1/own`.
    """
    if not number:
        return entry.name
    first, slash, rest = entry.name.partition("/") if entry.section == "part" else (entry.name, "", "")
    return f"{first}{MARK}{number}{slash}{rest}"


def original(name: str) -> str:
    """Return the name of the entry or rung that a replica's name is made of: `sft/words` for `sft/words+1`."""
    return re.sub(rf"{re.escape(MARK)}[0-9]+", "", name)


class Replicas:
    """Replicas of the entries of params.yaml. Values that `ladder check` refuses are taken as absent."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self._varies: dict[Entry, bool] = {}

    def of(self, section: str) -> list[Replica]:
        """Return all replicas of a section's entries, in the order of params.yaml."""
        return [
            Replica(entry, number, self._content(entry, number))
            for entry, count in self.counts.items()
            if entry.section == section
            for number in range(1, count)
        ]

    def rungs(self, table: str) -> list[str]:
        """Return the rungs that a table measures, each followed by its replicas."""
        return list(self.numbers(table))

    def numbers(self, table: str) -> dict[str, int]:
        """Return the rungs of a table, each followed by its replicas, with their numbers."""
        return self.measured(table, self.listed("report", "rungs") if table == "report" else self.claimed())

    def measured(self, table: str, rungs: list[str]) -> dict[str, int]:
        """Return the rungs of a table, each followed by its replicas, with their numbers; 0 is the rung itself."""
        seeds, entries = seeds_of(self.params, table), {rung: self._entry(rung) for rung in rungs}
        counts = {rung: seeds if entry in self.counts else 1 for rung, entry in entries.items()}
        return {self.reference(rung, number): number for rung, count in counts.items() for number in range(count)}

    def listed(self, table: str, key: str) -> list[str]:
        """Return the names in a list of rungs."""
        found = self.section(table).get(key)
        return [rung for rung in found if isinstance(rung, str)] if isinstance(found, list) else []

    def section(self, name: str) -> dict[str, Any]:
        """Return a section of params.yaml; empty if it is absent or invalid."""
        found = self.params.get(name)
        return found if isinstance(found, dict) else {}

    def claimed(self) -> list[str]:
        """Return the rungs that claims measure: those of the lists, and the reward models of claims."""
        claims = self.section("claims").get("claims")
        rungs = [claim.get("rung") for claim in claims if isinstance(claim, dict)] if isinstance(claims, list) else []
        named = [rung for key in TABLES["claims"] for rung in self.listed("claims", key)]
        return list(dict.fromkeys([*named, *(rung for rung in rungs if isinstance(rung, str))]))

    def reference(self, value: Any, number: int) -> Any:
        """Return a reference's replica: `pairs/web+1.validation`; the reference itself if its entry has none."""
        entry = self._entry(value)
        if entry is None or not 0 < number < self.counts.get(entry, 1):
            return value
        return f"{entry.section}/{numbered(entry, number)}{value[len(entry.section) + 1 + len(entry.name) :]}"

    @cached_property
    def counts(self) -> dict[Entry, int]:
        """Number of seeds of every entry that has replicas, in the order of params.yaml."""
        found: dict[Entry, int] = {}
        for table in TABLES:
            seeds = seeds_of(self.params, table)
            queue = [entry for value in self._targets(table) if (entry := self._entry(value))] if seeds > 1 else []
            while queue:
                entry = queue.pop()
                if found.get(entry, 1) < seeds and self.varies(entry):
                    found[entry] = seeds
                    queue += self._made_of(entry)
        return {entry: found[entry] for entry in self._entries() if entry in found}

    def varies(self, entry: Entry) -> bool:
        """Whether an entry depends on a seed: its own, or that of something that it is made of."""
        if entry not in self._varies:
            self._varies[entry] = False  # an entry that is its own ancestor; `ladder check` reports it
            own = any(True for _ in _seeds(self._with_defaults(entry)))
            may = entry.section in REPLICATED and entry not in self._fixed
            self._varies[entry] = may and (own or any(map(self.varies, self._made_of(entry))))
        return self._varies[entry]

    def _content(self, entry: Entry, number: int) -> dict[str, Any]:
        content = _shifted(self._with_defaults(entry), number * STRIDE)
        for key in _link_keys(entry.section) & content.keys():
            content[key] = self.reference(content[key], number)
        if entry.section == "merge" and isinstance(content.get("parents"), list):
            parents = {rung: self.reference(rung, number) for rung in content["parents"] if isinstance(rung, str)}
            content = _replaced(content, parents)
        return content

    def _with_defaults(self, entry: Entry) -> dict[str, Any]:
        """Return a copy of an entry that has the default values of the seeds that it leaves out."""
        content: dict[str, Any] = copy.deepcopy(self.params[entry.section][entry.name])
        if isinstance(content.get("trainer"), dict):
            content["trainer"].setdefault("seed", TRAINER_SEED)
        if entry.section in DEFAULT_SEEDS:
            content.setdefault("seed", DEFAULT_SEEDS[entry.section])
        return content

    def _made_of(self, entry: Entry) -> list[Entry]:
        """Return the entries that an entry names."""
        content = self.params[entry.section][entry.name]
        values = [content[key] for key in sorted(_link_keys(entry.section) & content.keys())]
        if entry.section == "merge" and isinstance(content.get("parents"), list):
            values += content["parents"]
        if entry.section == "mixture" and isinstance(content.get("parts"), dict):
            values += [f"part/{entry.name}/{part}" for part in content["parts"]]
        return [found for value in values if (found := self._entry(value))]

    @cached_property
    def _fixed(self) -> frozenset[Entry]:
        """Entries that make the rows of an evaluation, which are the same for all seeds."""
        named: list[Any] = [*self.section("heldout")]
        named += [self.section(single).get("data") for single in ("accuracy", "divergence")]
        named += [entry.get("heldout") for entry in self.section("reward").values() if isinstance(entry, dict)]
        queue, found = [entry for value in named if (entry := self._entry(value))], set()
        while queue:
            entry = queue.pop()
            if entry not in found:
                found.add(entry)
                content = self.params[entry.section][entry.name]
                queue += [above for key in ROW_KEYS if (above := self._entry(content.get(key)))]
        return frozenset(entry for entry in found if entry.section in ROWS)

    def _targets(self, table: str) -> list[Any]:
        """Return the references of all that a table measures, and measures with."""
        if table == "report":
            return [*self.listed("report", "rungs")]
        return [*self.claimed(), self.section("accuracy").get("data"), self.section("divergence").get("teacher")]

    def _entries(self) -> Iterator[Entry]:
        return (Entry(section, name) for section in self.params for name in self.section(section))

    def _entry(self, reference: Any) -> Entry | None:
        """Return the entry that makes `sft/chat` or a file such as `pairs/web.validation`; None if there is none."""
        if not isinstance(reference, str):
            return None
        section, _, name = reference.partition("/")
        for found in (name, name.partition(".")[0]):
            if section not in SINGLE and isinstance(self.section(section).get(found), dict):
                return Entry(section, found)
        return None


def seed_faults(params: dict[str, Any]) -> Iterator[Fault]:
    """Find tables over several seeds in which no rung depends on a seed."""
    replicas = Replicas(params)
    for table in TABLES:
        if seeds_of(params, table) > 1 and not any(replicas.numbers(table).values()):
            sentence = "no rung of this table depends on a seed, so all replicas would be equal. Remove the key."
            yield Fault((table, SEEDS), sentence)


def seeds_of(params: dict[str, Any], table: str) -> int:
    """Return the number of seeds of a table of rungs; 1 if it is absent or invalid."""
    section = params.get(table)
    found = section.get(SEEDS, 1) if isinstance(section, dict) else 1
    return found if type(found) is int and found > 1 else 1


def with_replicas(params: dict[str, Any]) -> dict[str, Any]:
    """Return the sections of params.yaml with the replicas of their entries."""
    replicas = Replicas(params)
    added = {section: {each.name: each.content for each in replicas.of(section)} for section in _sections(replicas)}
    return {**params, **{section: {**params[section], **entries} for section, entries in added.items()}}


def _sections(replicas: Replicas) -> list[str]:
    return list(dict.fromkeys(entry.section for entry in replicas.counts))


def _link_keys(section: str) -> frozenset[str]:
    return LINK_KEYS - OTHERS.get(section, frozenset())


def _seeds(content: Any) -> Iterator[int]:
    if isinstance(content, dict):
        yield from (value for key, value in content.items() if key in SEED_KEYS and type(value) is int)
    for value in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from _seeds(value)


def _shifted(content: Any, added: int) -> Any:
    if isinstance(content, dict):
        return {
            key: value + added if key in SEED_KEYS and type(value) is int else _shifted(value, added)
            for key, value in content.items()
        }
    return [_shifted(value, added) for value in content] if isinstance(content, list) else content


def _replaced(content: Any, texts: dict[str, Any]) -> Any:
    if isinstance(content, dict):
        return {key: _replaced(value, texts) for key, value in content.items()}
    if isinstance(content, list):
        return [_replaced(value, texts) for value in content]
    return texts.get(content, content) if isinstance(content, str) else content
