"""A streamed answer is the answer of the stages' engine."""

import pytest

from conftest import user
from ladder.inference.local import engine_of
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError
from ladder.ship.speaker import Speaker, _first, _safe

TURNS = [{"role": "system", "content": "Answer in few words."}, *user("Say ä."), *user("Say it again.")][:2]


@pytest.mark.parametrize("name", ["base", "sft/words"])
@pytest.mark.parametrize(
    "sampling",
    [Sampling(max_new_tokens=40), Sampling(temperature=1.0, top_p=0.9, max_new_tokens=40, seed=7)],
    ids=["greedy", "sampled"],
)
def test_a_streamed_answer_is_that_of_the_engine(repository, name, sampling):
    folder, base = repository / "models" / name, repository / "models/base"
    expected = engine_of(load(folder, base)).generate([TURNS], sampling)[0]
    speaker = Speaker(folder)
    pieces = list(speaker.answer(speaker.prompt(TURNS), sampling))
    assert "".join(piece.text for piece in pieces) == expected.text != ""
    assert pieces[-1].tokens == expected.tokens
    assert pieces[-1].finish == ("stop" if expected.finished else "length")
    assert all(piece.finish is None for piece in pieces[:-1]) and len(pieces) > 2


def test_an_answer_ends_before_a_stop_string(repository):
    speaker = Speaker(repository / "models/base")
    prompt, sampling = speaker.prompt(TURNS), Sampling(max_new_tokens=40)
    whole = "".join(piece.text for piece in speaker.answer(prompt, sampling))
    stop = whole[6:9]
    pieces = list(speaker.answer(prompt, sampling, ["never in it", stop]))
    assert "".join(piece.text for piece in pieces) == whole[: whole.index(stop)]
    assert pieces[-1].finish == "stop"


def test_an_answer_that_was_closed_lets_the_next_one_start(repository):
    speaker = Speaker(repository / "models/base")
    prompt, sampling = speaker.prompt(TURNS), Sampling(max_new_tokens=8)
    first = speaker.answer(prompt, sampling)
    next(first)
    first.close()
    assert list(speaker.answer(prompt, sampling))[-1].finish is not None


def test_an_answer_ends_at_the_last_position_of_the_model(repository):
    speaker = Speaker(repository / "models/base")
    length = len(speaker.prompt(TURNS))
    speaker.positions = length + 3
    pieces = list(speaker.answer(speaker.prompt(TURNS), Sampling(max_new_tokens=40)))
    assert (pieces[-1].tokens, pieces[-1].finish) == (4, "length")
    speaker.positions = length - 1
    with pytest.raises(UserError, match=f"messages: expected at most {length - 1} tokens, got {length}"):
        speaker.prompt(TURNS)


@pytest.mark.parametrize(
    ("text", "stop", "shown", "end"),
    [
        ("abc", [], "abc", None),
        ("ab\ufffd", [], "ab", None),
        ("one\nUs", ["\nUser:", "Us?"], "one", None),
        ("one\nUs", ["Us?"], "one\n", None),
        ("one\nUser: two", ["User:", "\nUser:"], "one\nUser: two", 3),
    ],
)
def test_text_that_may_change_is_held_back(text, stop, shown, end):
    assert (_safe(text, stop), _first(text, stop)) == (shown, end)
