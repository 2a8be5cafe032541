"""What a file of rows holds, measured: the facts of its data card.

The file is read line by line, several times, and never held; what is kept of a row is its hashes and counts.
"""

import hashlib
import heapq
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from ladder.chat.encode import Messages, check_messages
from ladder.data.jsonl import Row
from ladder.data.row_file import RowFile
from ladder.data.turns import said
from ladder.data.wording import WORD
from ladder.filters import decontamination, minhash_dedup, prefilter
from ladder.filters.batch import ROWS, Batch
from ladder.filters.decontamination import Benchmarks
from ladder.pipeline.stage import UserError
from ladder.report.histograms import spread
from ladder.synthesis import pair_balancing

NEAR_NGRAM = 5
"""Words of a shingle (Lee et al. 2022, arXiv:2107.06499, section 4.2)."""
SPANS = 5
"""Contaminated rows of which a card shows the words in common."""
BATCH = 256
UNITS = ("characters", "words", "tokens")


def typed(row: Row, where: str) -> Row:
    """The row, its messages checked; one that is a prompt alone gets an empty completion. Errors: UserError when it is
    of none of TRL's types and no prompt."""
    if "messages" not in row and not {"completion", "chosen"} & row.keys():
        row = {**row, "completion": []}
    for name in kind(row):
        if row.get(name) != [] or name != "completion":
            check_messages(row.get(name), f"{where}: {name}")
    return row


def kind(row: Row) -> tuple[str, ...]:
    """The columns of messages that make the row's type."""
    if "messages" in row:
        return ("messages",)
    return ("prompt", "chosen", "rejected") if "chosen" in row else ("prompt", "completion")


def parts(row: Row) -> dict[str, str]:
    """What is measured of a row: the texts of prompt and answer (of `messages`, the user's and the assistant's)."""
    if "messages" in row:
        return {"prompt": _texts(row["messages"], "user"), "answer": _texts(row["messages"], "assistant")}
    names = {"prompt": "prompt", "completion": "answer", "chosen": "chosen", "rejected": "rejected"}
    return {names[name]: _texts(row[name]) for name in kind(row) if row[name]}


def _texts(messages: Messages, role: str | None = None) -> str:
    return "\n".join(message["content"] for message in messages if role in (None, message["role"]))


def turns(row: Row) -> int:
    """Messages of the conversation, system prompts aside; of a pair with one of its answers."""
    messages = [message for name in kind(row) if name != "rejected" for message in row[name]]
    return sum(message["role"] != "system" for message in messages)


def facts(
    path: Path, tokenizer: PreTrainedTokenizerBase, tasks: Path, *, ngram: int, jaccard: float, shown: int
) -> Row:
    """All that a card says of a file: see each function. Errors: UserError for a file without rows, with a row of no
    type, or with rows of several."""
    rows = RowFile(path, typed)
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    made = {
        **shape(rows, path),
        "lengths": lengths(rows, tokenizer),
        "turns": counted(turns(row) for row in rows),
        "checks": checks(rows),
        "duplicates": duplicates(rows, jaccard),
        "contamination": contamination(rows, tasks, ngram),
    }
    if "chosen" in made["type"]:
        made["balance"] = pair_balancing.lengths(rows)
    return {"sha256": digest, "bytes": path.stat().st_size, **made, "examples": examples(rows, shown)}


def shape(rows: Iterable[Row], path: Path) -> Row:
    """{"rows", "type": columns of messages, "columns": {name: rows that have it}, "true": {name: rows where it is so},
    "sources": {name: rows}, "models": {name: rows whose answer an endpoint's model wrote}, where there are any}."""
    kinds: Counter[tuple[str, ...]] = Counter()
    columns: Counter[str] = Counter()
    true: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    models: Counter[str] = Counter()
    for row in rows:
        kinds[tuple(name for name in kind(row) if row[name])] += 1
        columns.update(name for name, value in row.items() if value != [] or name != "completion")
        true.update({name: int(value) for name, value in row.items() if isinstance(value, bool)})
        sources[source(row)] += 1
        models.update(name for name in [row.get("model")] if isinstance(name, str))
    if len(kinds) > 1:
        raise UserError(f"{path}: rows of several types: {', or '.join(' + '.join(columns) for columns in kinds)}")
    return {
        "rows": kinds.total(),
        "type": list(next(iter(kinds))),
        "columns": dict(columns),
        "true": dict(true),
        "sources": _most_first(sources),
        **({"models": _most_first(models)} if models else {}),
    }


def _most_first(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def source(row: Row) -> str:
    """The name of what a row was taken from; empty where it says nothing, as rows made here do."""
    told = row.get("source")
    return str(told.get("name", "")) if isinstance(told, dict) else ""


def lengths(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Row:
    """{part: {unit: spread}}: characters, words (as the filter `length` counts) and the base's tokens, without those
    of the chat template."""
    counts: dict[str, dict[str, Counter[int]]] = {}
    left = iter(rows)
    while batch := list(islice(left, BATCH)):
        texts = [(part, text) for row in batch for part, text in parts(row).items()]
        ids = tokenizer([text for _, text in texts], add_special_tokens=False, verbose=False).input_ids
        for (part, text), tokens in zip(texts, ids, strict=True):
            of_part = counts.setdefault(part, {unit: Counter() for unit in UNITS})
            for unit, length in zip(UNITS, (len(text), len(WORD.findall(text)), len(tokens)), strict=True):
                of_part[unit][length] += 1
    return {part: {unit: spread(of_unit) for unit, of_unit in of_part.items()} for part, of_part in counts.items()}


def counted(numbers: Iterable[int]) -> dict[str, int]:
    """{number: how often}, the least first."""
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def checks(rows: Iterable[Row]) -> Row:
    """{"kinds": {kind: rows with such a constraint}, "of_a_row": {constraints: rows}}; empty where no row has any."""
    kinds: Counter[str] = Counter()
    numbers: Counter[int] = Counter()
    for row in rows:
        found = [check["kind"] for check in row.get("checks") or []]
        kinds.update(set(found))
        numbers[len(found)] += 1
    if not kinds:
        return {}
    by_count = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    return {"kinds": dict(by_count), "of_a_row": counted(numbers.elements())}


def duplicates(rows: Iterable[Row], jaccard: float) -> Row:
    """{"exact": rows that say all that one before them says, case and blanks aside, "near": rows alike to one before
    by `jaccard` or more, the exact ones among them}."""
    seen: set[bytes] = set()
    exact = 0
    for row in rows:
        text = " ".join(said(row, "all").lower().split())
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
        exact += key in seen
        seen.add(key)
    alike = minhash_dedup.near_duplicates(rows, part="all", jaccard=jaccard, ngram=NEAR_NGRAM, unit="words")
    near = sum(reason is not None for reason in alike)
    return {"exact": exact, "near": near, "jaccard": jaccard, "ngram": NEAR_NGRAM}


def contamination(rows: Iterable[Row], tasks: Path, ngram: int) -> Row:
    """{"ngram", "benchmarks": {name: rows with a run of its words}, "spans": of the first such rows}."""
    benchmarks = decontamination.read_benchmarks(tasks)
    found = dict.fromkeys(sorted(benchmarks), 0)
    spans: list[Row] = []
    for number, row, reason in _contaminated(rows, ngram, benchmarks):
        if told := re.match(r"in ([^:]+): ", reason):
            found[told[1]] += 1
            if len(spans) < SPANS:
                spans.append({"row": row.get("id", number), "span": reason})
    return {"ngram": ngram, "benchmarks": found, "spans": spans}


def _contaminated(rows: Iterable[Row], ngram: int, benchmarks: Benchmarks) -> Iterator[tuple[int, Row, str]]:
    """(number, row, reason) of those that hold a benchmark's words."""
    numbered = enumerate(rows, start=1)
    while several := list(islice(numbered, ROWS)):
        batch = Batch([row for _, row in several])
        clear = not batch.large and prefilter.decontaminate(batch, ngram=ngram, benchmarks=benchmarks)
        for (number, row), surely in zip(several, np.broadcast_to(clear, len(several)).tolist(), strict=True):
            if not surely and (reason := decontamination.decontaminate(row, ngram=ngram, benchmarks=benchmarks)):
                yield number, row, reason


def examples(rows: Iterable[Row], shown: int) -> list[Row]:
    """Rows to read, in their order: those with the lowest hashes, so that a row more or less changes one at most."""
    hashed = (
        (hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest(), number, row)
        for number, row in enumerate(rows)
    )
    drawn = heapq.nsmallest(shown, hashed, key=lambda item: item[:2])
    return [row for _, _, row in sorted(drawn, key=lambda item: item[1])]
