r"""Detect the format of published chat and preference rows, and convert them to one row type.

Formats are detected by their columns, in this order:

- preference: `prompt, chosen, rejected`, each a text or messages; chosen and rejected may also contain the prompt
  (UltraFeedback-binarized), and then `prompt` may be missing
- transcripts: `chosen, rejected` as two whole dialogues, "\n\nHuman: ...\n\nAssistant: ..." (HH-RLHF)
- messages: `messages` of role and content (ChatML, OpenAI; UltraChat-200k), or of from and value
- sharegpt: `conversations`, `conversation`, `dialogue`, `turns` of from and value, or of role and content
- completion: `prompt, completion`, each a text or messages
- alpaca: `instruction, output`, and optionally `input`
- seeds: `instruction, instances`, each of input and output (Self-Instruct's seed tasks)
- tree: `prompt` with its ranked `replies` (Open Assistant trees): the best path, or every pair of ranks. Rows that
  are single messages (`message_id, parent_id, role, text`) are assembled into trees first
- question: one of `prompt, instruction, question, query, problem` and one of `response, answer, output, solution,
  reply, completion` (Dolly, OpenOrca)
- prompt: `prompt` alone, a text or messages

A row with one answer is an unpaired preference if it has a label (`label`, `kto_tag`, `desirable`). For rows of type
`prompt`, a conversation is cut after its last user message, and a pair yields its prompt. A column without a value
counts as missing. A row is invalid if it has an unread column that may change its meaning; ladder/data/columns.py has
the names, docs/data-formats.md describes them for users.
"""

from collections.abc import Collection
from typing import Literal, get_args

from ladder.chat.encode import Messages, up_to_user
from ladder.data import columns, oasst_trees, rendered_text
from ladder.data.column_names import ANSWERS, CONVERSATIONS, QUESTIONS, REASONING, SECOND_INPUTS, SYSTEMS, TEXTS
from ladder.data.columns import empty, plain
from ladder.data.jsonl import Kind, Row
from ladder.data.layouts import (
    READERS,
    REASONED,
    TURN,
    answer_column,
    asked_columns,
    conversation_column,
    preference,
    reasoned,
    transcripts,
)
from ladder.pipeline.errors import InvalidRow

Format = Literal[
    "preference", "transcripts", "messages", "sharegpt", "completion", "alpaca", "seeds", "tree", "question", "prompt"
]
COLUMNS = {"prompt", "chosen", "rejected", "messages", "conversations", "completion", "instruction", "input", "output"}
COLUMNS |= {"instances", "system", "label", "reasoning_content", "train"}
"""Column names that the formats read. The `columns` option of a source maps other columns to these names."""
RENDERED = ("prompt", "chosen", "rejected", "completion", "instruction", "output", "response", "question", "answer")
"""Columns that are checked for rendered text before anything else is read."""
TEXTUAL = ("preference", "completion", "alpaca", "question", "prompt")
"""Formats whose columns may be plain texts."""


def read(
    row: Row, name: Format | None, kind: Kind, *, ignore: Collection[str] = (), unwrap: bool = False
) -> tuple[Format, list[Row]]:
    """Return the format of a row (detected if `name` is None) and its rows of type `kind`.

    Seeds and trees may hold several rows; all other formats hold one. `ignore` lists columns and message keys to
    leave out. `unwrap` converts text that a chat template rendered back to messages; without it, rendered text is an
    error. Errors: InvalidRow; Unread for a column that is not read.
    """
    whole, row = row, columns.canonical(row, ignore)
    if unwrap:
        row = rendered_text.unwrapped(row)
    if name is None and not unwrap and not empty(row.get("text")):
        _check_text(row)
    found = name or recognize(row)
    if found in TEXTUAL or (found == "transcripts" and TURN.match(str(row["chosen"])) is None):
        rendered_text.check_columns(row, RENDERED)
    _check_flags(row)
    label = columns.label(row)
    if label and kind in ("messages", "completion") and found not in ("preference", "transcripts", "tree"):
        raise InvalidRow(
            f"label: {label[0]!r} marks answers as good or bad; expected `rows: unpaired`, to train with KTO, got "
            f"`rows: {kind}`. `ignore: [{label[0]}]` treats every answer as good"
        )
    rows = _rows(row, found, kind, ignore, label)
    texts = [message["content"] for made in rows for name in made.keys() - {"label"} for message in made[name]]
    columns.check(row, _read_columns(row, found, kind, label), texts)
    columns.check_placeholders(whole, texts)
    return found, rows


def _rows(row: Row, found: Format, kind: Kind, ignore: Collection[str], label: tuple[str, bool] | None) -> list[Row]:
    if found == "tree":
        if kind == "preference":
            return [_pair(*pair) for pair in oasst_trees.pairs(row)]
        return [_of_conversation(oasst_trees.best(row), kind, label)]
    if found in ("preference", "transcripts"):
        if kind not in ("preference", "prompt"):
            raise InvalidRow(f"pair: expected a row of {kind}, got a pair of answers ({found})")
        pair = transcripts(row) if found == "transcripts" else preference(row, ignore)
        return [_pair(*pair) if kind == "preference" else _of_conversation(pair[0], kind)]
    if found == "prompt" and kind != "prompt":
        raise InvalidRow(f"no answer: expected a row of {kind}, got a prompt alone")
    if kind == "preference":
        raise InvalidRow(f"no pair: expected two answers for a row of preference, got one (format {found})")
    conversations = READERS[found](row, ignore)
    if found in REASONED and kind != "prompt":
        conversations = [reasoned(row, messages) for messages in conversations]
    return [_of_conversation(messages, kind, label) for messages in conversations]


def recognize(row: Row) -> Format:
    """Detect the format of a row by its columns. Errors: InvalidRow listing the row's columns."""
    there = {column for column, value in row.items() if value is not None}
    if {"chosen", "rejected"} <= there:
        texts = isinstance(row["chosen"], str) and not there & {*QUESTIONS, "input", *CONVERSATIONS[:3]}
        return "transcripts" if texts else "preference"
    if "messages" in there:
        return "messages"
    if conversation_column(row):
        return "sharegpt"
    if {"prompt", "completion"} <= there:
        return "completion"
    if {"instruction", "output"} <= there:
        return "alpaca"
    if {"instruction", "instances"} <= there:
        return "seeds"
    if isinstance(row.get("prompt"), dict) and "replies" in row["prompt"]:
        return "tree"
    if there & {*QUESTIONS, "input"} and there & set(ANSWERS):
        return "question"
    if isinstance(row.get("prompt"), str | list):
        return "prompt"
    named = ", ".join(sorted(there)) or "none"
    raise InvalidRow(f"no format: none of {', '.join(get_args(Format))} has the columns {named}. Map them in `columns`")


def _check_text(row: Row) -> None:
    """Reject rendered text in `text` when it is the row's only text column. Errors: InvalidRow."""
    others = {name for name, value in row.items() if name in TEXTS and not empty(value)} - {"text"}
    if not others and isinstance(row["text"], str):
        rendered_text.check(row["text"], "text")


def _check_flags(row: Row) -> None:
    """Reject a row whose training flag is false. Errors: InvalidRow."""
    flagged = columns.learned(row, "the row")
    if flagged and not flagged[1]:
        raise InvalidRow(f"nothing to learn: {flagged[0]!r} excludes the row from training")


def _read_columns(row: Row, found: Format, kind: Kind, label: tuple[str, bool] | None) -> set[str]:
    """Return the columns that a format reads, and related columns that may be left out safely."""
    read = {name for name in row if columns.is_flag(name)} | {*SYSTEMS}
    if found == "preference":
        read |= {*QUESTIONS, *SECOND_INPUTS, "chosen", "rejected"}
        read |= {name for name in CONVERSATIONS if name in row and empty(row.get("prompt"))}
    elif found == "transcripts":
        read |= {"chosen", "rejected"}
    elif found == "sharegpt":
        read |= {conversation_column(row) or "conversations"}
    elif found == "tree":
        read |= {"prompt", "text", "replies", "role"}
    elif found == "messages":
        read |= {"messages", "prompt"}
    elif found == "seeds":
        read |= {"instruction", "instances"}
    else:
        read |= {*asked_columns(row), *SECOND_INPUTS, *(name for name in ANSWERS[:1] if name in row)}
        read |= {"output", "text"} if found == "alpaca" else {"completion"} if found == "completion" else set()
        read |= {answer_column(row)} if found == "question" and kind != "prompt" else set()
    if kind == "prompt":  # answers and their reasoning are dropped
        read |= {*ANSWERS, "messages", "chosen", "rejected"} | {name for name in row if plain(name) in REASONING}
        read |= {label[0]} if label else set()
    elif found in REASONED:
        read |= {name for name in row if plain(name) in REASONING}
    if label and kind == "unpaired":
        read |= {label[0]}
    return read


def _of_conversation(messages: Messages, kind: Kind, label: tuple[str, bool] | None = None) -> Row:
    if kind == "prompt":
        messages = up_to_user(messages)
    check_turns(messages)
    if kind == "prompt":
        return {"prompt": messages}
    if messages[-1]["role"] != "assistant":
        raise InvalidRow(f"turns: expected the last of assistant, got {messages[-1]['role']}")
    if all("train" in message for message in messages if message["role"] == "assistant"):
        raise InvalidRow("nothing to learn: every assistant turn is excluded from training")
    if kind == "messages":
        return {"messages": messages}
    if kind == "completion":
        return {"prompt": messages[:-1], "completion": messages[-1:]}
    if label is None:
        raise InvalidRow("no label: expected one of label, kto_tag, desirable with true or false, for rows of unpaired")
    if "train" in messages[-1]:
        raise InvalidRow("nothing to learn: the labeled answer is excluded from training")
    return {"prompt": messages[:-1], "completion": messages[-1:], "label": label[1]}


def _pair(prompt: Messages, chosen: Messages, rejected: Messages) -> Row:
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer or answer[0]["role"] != "assistant":
            raise InvalidRow(f"turns: {name} does not begin with the assistant's answer to the prompt")
        if answer[-1]["role"] != "assistant" or any(message["role"] == "user" for message in answer):
            raise InvalidRow(f"turns: {name} continues after the answer")
        if any("train" in message for message in answer):
            raise InvalidRow(f"nothing to learn: {name} has a turn that is excluded from training")
        check_turns([*prompt, *answer])
    if chosen == rejected:
        raise InvalidRow("same answer: chosen and rejected are equal")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def check_turns(messages: Messages) -> None:
    """Check that a chat template can render the messages. Errors: InvalidRow.

    A system message is optional and comes first. The next turn is the user's. Two consecutive turns of the user or of
    the assistant are invalid, and so is a turn without text or with rendered text.
    """
    before = "system"
    for number, message in enumerate(messages, start=1):
        role = message["role"]
        if not message["content"].strip():
            raise InvalidRow(f"empty text: turn {number}, of {role}")
        first = number == 1 or (number == 2 and before == "system")
        if role == "system" and number > 1:
            raise InvalidRow(f"turns: {number} is system; expected it first")
        if first and role not in ("system", "user"):
            raise InvalidRow(f"turns: {number} is {role}, before the first of user")
        if role == before and role in ("user", "assistant"):
            raise InvalidRow(f"turns: {number} is {role}, like the previous one")
        rendered_text.check(message["content"], f"turn {number}, of {role},")
        before = role
    if before == "system":
        raise InvalidRow("turns: none of user")
