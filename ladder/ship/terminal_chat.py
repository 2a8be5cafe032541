"""Chat with one or two rungs in a terminal, or through a pipe: one line of input is one turn."""

import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import zip_longest
from typing import TextIO

from ladder.chat.rendering import Messages
from ladder.inference.types import Sampling
from ladder.pipeline.errors import UserError
from ladder.ship.speaker import Piece, Speaker

Write = Callable[[list[str], Sequence[Iterator[Piece]]], None]
"""Function that writes the answers of the rungs with these names."""
HELP = "/reset starts a new conversation, /quit ends. Ctrl-C stops an answer."


class Conversation:
    """Conversation with a rung. An answer that failed or was stopped leaves no turn."""

    def __init__(self, speaker: Speaker, system: str | None) -> None:
        self.speaker, self.system = speaker, system
        self.messages: Messages = []
        self.reset()

    def reset(self) -> None:
        """Start again with the system message alone."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def ask(self, text: str, sampling: Sampling) -> Generator[Piece]:
        """Yield the answer to a user's turn; keep both turns once it is complete."""
        turns = [*self.messages, {"role": "user", "content": text}]
        answer = ""
        for piece in self.speaker.answer(self.speaker.prompt(turns), sampling):
            answer += piece.text
            yield piece
        self.messages = [*turns, {"role": "assistant", "content": answer}]


def chat(speakers: Sequence[Speaker], sampling: Sampling, system: str | None, source: TextIO, output: TextIO) -> None:
    """Read turns from `source` until its end or /quit, and write the answers to `output`.

    In a terminal, answers appear as they are made: those of two rungs side by side. Elsewhere an answer is written
    when it is complete, with the rung's name before it if there are two.
    """
    conversations = [Conversation(speaker, system) for speaker in speakers]
    terminal = source.isatty() and output.isatty()
    if terminal:
        print(f"{' and '.join(one.speaker.name for one in conversations)}. {HELP}", file=output)
    write = _writer(len(speakers), output, terminal=terminal)
    for line in _lines(source, terminal=terminal):
        match line.strip():
            case "":
                continue
            case "/quit":
                return
            case "/reset":
                for one in conversations:
                    one.reset()
            case command if command.startswith("/") and " " not in command:
                _refuse(f"{command}: no such command; expected /reset or /quit", terminal=terminal)
            case text:
                _turn(conversations, text, sampling, write, terminal=terminal)


def _turn(conversations: list[Conversation], text: str, sampling: Sampling, write: Write, *, terminal: bool) -> None:
    answers = [one.ask(text, sampling) for one in conversations]
    try:
        write([one.speaker.name for one in conversations], answers)
    except KeyboardInterrupt:
        if not terminal:
            raise
        print("\n(stopped; this turn is not part of the conversation)", file=sys.stderr)
    except UserError as refusal:
        _refuse(str(refusal), terminal=terminal)
    finally:
        for answer in answers:
            answer.close()  # an open answer would block the next one


def _refuse(sentence: str, *, terminal: bool) -> None:
    """Print an error in a terminal; end a script."""
    if not terminal:
        raise UserError(sentence)
    print(sentence, file=sys.stderr)


def _lines(source: TextIO, *, terminal: bool) -> Iterator[str]:
    if not terminal:
        yield from source
        return
    import readline  # noqa: F401  # input() then edits lines and keeps a history

    while True:
        try:
            yield input("> ")
        except EOFError:
            return


def _writer(count: int, output: TextIO, *, terminal: bool) -> Write:
    if not terminal:
        return lambda names, answers: _write_whole(names, answers, output)
    if count == 1:
        return lambda _, answers: _write_stream(answers[0], output)
    return _write_columns


def _write_whole(names: list[str], answers: Sequence[Iterator[Piece]], output: TextIO) -> None:
    for name, answer in zip(names, answers, strict=True):
        text = "".join(piece.text for piece in answer)
        print(f"{name}: {text}" if len(names) > 1 else text, file=output, flush=True)


def _write_stream(answer: Iterator[Piece], output: TextIO) -> None:
    for piece in answer:
        output.write(piece.text)
        output.flush()
    output.write("\n")


def _write_columns(names: list[str], answers: Sequence[Iterator[Piece]]) -> None:
    """Show the answers in columns; a token of each in turn."""
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    texts = [""] * len(names)

    def columns() -> Table:
        table = Table(expand=True, box=None)
        for name in names:
            table.add_column(name, ratio=1)
        table.add_row(*map(Text, texts))
        return table

    with Live(columns(), refresh_per_second=12, vertical_overflow="visible") as live:
        for pieces in zip_longest(*answers):
            texts = [text + (piece.text if piece else "") for text, piece in zip(texts, pieces, strict=True)]
            live.update(columns())
