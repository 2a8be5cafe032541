"""Statistics of a row file for its data card.

The file is streamed several times and never loaded. Memory holds only hashes and counts of the rows.
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

from ladder import statistics
from ladder.chat.encode import check_messages
from ladder.data.jsonl import Row
from ladder.data.jsonl_stream import RowFile
from ladder.data.turns import said
from ladder.data.wording import WORD
from ladder.filters import basic, decontamination, minhash_dedup, prefilter
from ladder.filters.batch import ROWS, Batch
from ladder.filters.decontamination import Benchmarks
from ladder.pipeline.stage import UserError
from ladder.report.histograms import spread
from ladder.synthesis import pair_balancing

NEAR_NGRAM = 5
"""Words per shingle for near-duplicates (Lee et al. 2022, arXiv:2107.06499, section 4.2)."""
SPANS = 5
"""Maximum number of contaminated rows whose shared words a card shows."""
BATCH = 256
UNITS = ("characters", "words", "tokens")


def typed(row: Row, where: str) -> Row:
    """Validate the messages of a row. A row with only a prompt gets an empty completion.

    Errors: UserError for a row that is neither of one of TRL's types nor a prompt.
    """
    if "messages" not in row and not {"completion", "chosen"} & row.keys():
        row = {**row, "completion": []}
    for name in kind(row):
        if row.get(name) != [] or name != "completion":
            check_messages(row.get(name), f"{where}: {name}")
    return row


def kind(row: Row) -> tuple[str, ...]:
    """Return the message columns that define the row's type."""
    if "messages" in row:
        return ("messages",)
    return ("prompt", "chosen", "rejected") if "chosen" in row else ("prompt", "completion")


def parts(row: Row) -> dict[str, str]:
    """Return the measured texts of a row by part.

    The parts are the prompt and the answer as ladder/data/turns.py defines them; those of a pair are the prompt, the
    chosen and the rejected answer. A row with only a prompt has no answer.
    """
    found = {"prompt": said(row, "prompt")}
    if "chosen" in row and "messages" not in row:
        rejected = {**row, "chosen": row["rejected"]}
        return found | {"chosen": said(row, "completion"), "rejected": said(rejected, "completion")}
    return found | ({"answer": said(row, "completion")} if row.get("completion") != [] else {})


def turns(row: Row) -> int:
    """Return the number of messages without system prompts. For a pair, only the chosen answer counts."""
    messages = [message for name in kind(row) if name != "rejected" for message in row[name]]
    return sum(message["role"] != "system" for message in messages)


def facts(
    path: Path, tokenizer: PreTrainedTokenizerBase, tasks: Path, *, ngram: int, jaccard: float, shown: int
) -> Row:
    """Return all statistics of a file; see the function of each key.

    Errors: UserError for a file without rows, with a row of no known type, or with rows of several types.
    """
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
        made["balance"] = balance(rows)
    return {"sha256": digest, "bytes": path.stat().st_size, **made, "examples": examples(rows, shown)}


def shape(rows: Iterable[Row], path: Path) -> Row:
    """Return row counts, columns and sources.

    Keys:
    - `rows`: number of rows
    - `type`: the message columns of the row type
    - `columns`: {name: rows that have it}
    - `true`: {name: rows in which the boolean column is true}
    - `sources`: {name: rows}
    - `models`: {name: rows whose answer was written by a model of an endpoint}, only if there are any

    Errors: UserError for rows of several types.
    """
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
    """Return the name of a row's source; empty if the row has none, as rows made here."""
    origin = row.get("source")
    return str(origin.get("name", "")) if isinstance(origin, dict) else ""


def lengths(rows: Iterable[Row], tokenizer: PreTrainedTokenizerBase) -> Row:
    """Return {part: {unit: spread}} for characters, words and tokens.

    Words are counted as in the filter `length`. Tokens are those of the base model, without tokens of the chat
    template.
    """
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
    """Return {number: count}, sorted by number."""
    return {str(number): count for number, count in sorted(Counter(numbers).items())}


def checks(rows: Iterable[Row]) -> Row:
    """Return counts of verifiable constraints; empty if no row has any.

    Keys: `kinds` is {kind: rows with at least one constraint of it}; `of_a_row` is {number of constraints: rows}.
    """
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
    """Count rows that duplicate an earlier row.

    Keys: `exact` counts rows that the filter `exact` rejects. `near` counts rows with a Jaccard similarity of `jaccard`
    or more, including exact duplicates.
    """
    exact = sum(reason is not None for reason in basic.exact(rows))
    alike = minhash_dedup.near_duplicates(rows, part="all", jaccard=jaccard, ngram=NEAR_NGRAM, unit="words")
    near = sum(reason is not None for reason in alike)
    return {"exact": exact, "near": near, "jaccard": jaccard, "ngram": NEAR_NGRAM}


def contamination(rows: Iterable[Row], tasks: Path, ngram: int) -> Row:
    """Count rows that overlap a benchmark.

    Keys: `ngram`; `benchmarks`: {name: rows that share an n-gram of words with it, or ask one of its questions};
    `spans`: the shared words of the first SPANS of these rows.
    """
    benchmarks = decontamination.read_benchmarks(tasks)
    found = dict.fromkeys(sorted(benchmarks), 0)
    spans: list[Row] = []
    for number, row, reason in _contaminated(rows, ngram, benchmarks):
        if benchmark := re.match(r"in ([^:]+): ", reason):
            found[benchmark[1]] += 1
            if len(spans) < SPANS:
                spans.append({"row": row.get("id", number), "span": reason})
    return {"ngram": ngram, "benchmarks": found, "spans": spans}


def _contaminated(rows: Iterable[Row], ngram: int, benchmarks: Benchmarks) -> Iterator[tuple[int, Row, str]]:
    """Iterate over (number, row, reason) of the rows that overlap a benchmark."""
    numbered = enumerate(rows, start=1)
    while several := list(islice(numbered, ROWS)):
        batch = Batch([row for _, row in several])
        clear = not batch.large and prefilter.decontaminate(batch, ngram=ngram, benchmarks=benchmarks)
        for (number, row), surely in zip(several, np.broadcast_to(clear, len(several)).tolist(), strict=True):
            if not surely and (reason := decontamination.decontaminate(row, ngram=ngram, benchmarks=benchmarks)):
                yield number, row, reason


def balance(rows: Iterable[Row]) -> dict[str, float]:
    """Length difference of pairs as in `pair_balancing.lengths`; the mean has a 95% bootstrap interval over prompts."""
    of_prompt: dict[str, list[int]] = {}
    for row in rows:
        of_prompt.setdefault(pair_balancing.prompt_key(row), []).append(pair_balancing.longer(row))
    sums = np.array([sum(differences) for differences in of_prompt.values()], dtype=float)
    counts = np.array([len(differences) for differences in of_prompt.values()], dtype=float)
    low, high = statistics.bootstrap(sums, counts)
    differences = np.array([one for several in of_prompt.values() for one in several])
    return {
        "chosen_longer_by_words": round(statistics.ratio(sums, counts), 1),
        "chosen_longer_low": round(low, 1),
        "chosen_longer_high": round(high, 1),
        "chosen_longer_percent": round(100 * float((differences > 0).mean()), 1),
    }


def examples(rows: Iterable[Row], shown: int) -> list[Row]:
    """Select `shown` example rows with the lowest hashes, in file order.

    Adding or removing a row changes at most one.
    """
    hashed = (
        (hashlib.sha256(json.dumps(row, sort_keys=True).encode()).digest(), number, row)
        for number, row in enumerate(rows)
    )
    drawn = heapq.nsmallest(shown, hashed, key=lambda item: item[:2])
    return [row for _, _, row in sorted(drawn, key=lambda item: item[1])]
