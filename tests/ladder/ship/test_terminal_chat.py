"""Chat through a pipe: each line is a turn of one conversation."""

import io
import sys
from pathlib import Path

import pytest

from conftest import assistant, user
from ladder.__main__ import main
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError
from ladder.ship.speaker import Speaker
from ladder.ship.terminal_chat import chat

SHORT = Sampling(max_new_tokens=12)


def expected(root, name, *messages):
    return engine_of(load(root / "models" / name, root / "models/base")).generate([list(messages)], SHORT)[0].text


def said(names, lines, system=None):
    output = io.StringIO()
    chat([Speaker(Path(f"models/{name}")) for name in names], SHORT, system, io.StringIO(lines), output)
    return output.getvalue()


def test_turns_form_one_conversation_until_reset(repository):
    one = expected(repository, "base", *user("One?"))
    two = expected(repository, "base", *user("One?"), *assistant(one), *user("Two?"))
    assert said(["base"], "One?\n\nTwo?\n/reset\nOne?\n/quit\nThree?\n") == f"{one}\n{two}\n{one}\n"
    assert two != expected(repository, "base", *user("Two?"))


def test_two_rungs_answer_each_turn_with_their_names(repository):
    system = {"role": "system", "content": "Be brief."}
    answers = [expected(repository, name, system, *user("One?")) for name in ("base", "sft/words")]
    assert said(["base", "sft/words"], "One?\n", "Be brief.") == f"base: {answers[0]}\nsft/words: {answers[1]}\n"


def test_a_wrong_command_and_a_refused_turn_end_a_script(repository):
    with pytest.raises(UserError, match="/stop: no such command; expected /reset or /quit"):
        said(["base"], "/stop\n")
    with pytest.raises(UserError, match="a chat template has rendered it already"):
        said(["base"], "<|im_start|>user<|im_end|>\n")


def test_the_command_reads_stdin_and_writes_answers_alone(repository, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("One?\n"))
    main(["chat", "base", "--max-new-tokens", "12"])
    assert capsys.readouterr().out == f"{expected(repository, 'base', *user('One?'))}\n"
