from pathlib import Path

import pytest

from conftest import assistant, user
from ladder.data.jsonl import parse_row
from ladder.filters import basic
from ladder.filters.chain import FilterChain
from ladder.filters.row_io import rewritten, with_texts
from ladder.filters.steps import FilterContext, parse
from ladder.pipeline.stage import UserError


def row(question, answer, **rest):
    return {
        "id": "a",
        "finished": True,
        "edited": False,
        "checks": [],
        "prompt": user(question),
        "completion": assistant(answer),
        **rest,
    }


def test_duplicates_differ_in_case_and_blanks_alone():
    rows = [row("Hi", "Yes  it is"), row("hi ", "yes it\nis"), row("Hi", "yes it was")]
    assert list(basic.exact(rows)) == [None, "duplicate", None]
    reported = [{"messages": user("a\0\0assistant\0b")}, {"messages": user("a") + assistant("b")}]
    reported += [{"messages": user("a\0")}, {"messages": user("a\\0")}, {"messages": user("a\\\\0")}]
    assert list(basic.exact(reported)) == [None] * 5


def test_flags_reasoning_and_labels_make_a_row_another():
    asked, said = user("Hi"), assistant("Yes")
    first = {"messages": asked + said + asked + said}
    flagged = {"messages": [asked[0], {**said[0], "train": False}, *asked, *said]}
    thought = {"messages": [*asked, *said, *asked, {**said[0], "reasoning_content": "Hm"}]}
    unpaired = [{"prompt": asked, "completion": said, "label": label} for label in (True, False, True)]
    found = list(basic.exact([first, flagged, thought, dict(flagged), *unpaired]))
    assert found == [None, None, None, "duplicate", None, None, "duplicate"]


def test_the_same_conversation_is_one_as_messages_and_as_prompt_and_completion():
    asked, said = user("Hi"), assistant("Yes")
    assert list(basic.exact([row("Hi", "Yes"), {"messages": asked + said}])) == [None, "duplicate"]


def test_speakers_system_prompts_and_rejected_answers_make_a_row_another():
    asked, said = user("Hi"), assistant("Yes")
    pairs = [{"prompt": asked, "chosen": said, "rejected": assistant(text)} for text in ("No", "Never", "no")]
    system = {"messages": [{"role": "system", "content": "Be brief."}, *asked, *said]}
    rows = [{"messages": asked + said}, *pairs, system, {"messages": [*said, *asked]}, {"messages": user("Hi Yes")}]
    assert list(basic.exact(rows)) == [None, None, None, "duplicate", None, None, None]


def test_length_counts_words():
    rows = [row("Hi", "one, two"), row("Hi", "one two three"), row("Hi", "é ü ß d e")]
    assert [basic.length(one, min=3, max=4) for one in rows] == ["2 words", None, "5 words"]


CHECKS = [{"kind": "lowercase"}, {"kind": "words_at_most", "n": 2}]


def test_a_row_without_a_verdict_is_checked_by_the_last_turn_of_its_answer():
    turns = user("Hi") + assistant("Yes it is") + user("Ho") + assistant("yes it")
    rows = [row("Hi", "yes it", checks=CHECKS), row("Hi", "Yes it is", checks=CHECKS)]
    rows += [{"messages": turns, "checks": CHECKS}, {"messages": turns[:2], "checks": CHECKS}]
    missed = "misses lowercase, words_at_most"
    assert [basic.verified(one) for one in rows] == [None, missed, None, missed]


def test_a_verdict_is_computed_once_and_again_where_the_text_changes():
    sampled = row("Hi", "Yes it", checks=CHECKS, passed=[False, True])
    assert basic.verified(sampled) == "misses lowercase"
    assert basic.verified({**sampled, "passed": [True, True]}) is None  # the row's own verdict, not another
    lowered = rewritten(sampled, str.lower)
    assert (lowered["passed"], basic.verified(lowered)) == ([True, True], None)
    assert rewritten(sampled, str) is sampled
    written = with_texts(b'{"id": "a", "passed": [false, true], "completion": []}\n', lowered, "here")
    assert parse_row(written, "here")["passed"] == [True, True]
    for wrong in ([True], [True, 1], True, None):
        with pytest.raises(UserError, match="^passed: expected one of true and false for each check, got "):
            basic.verified({**sampled, "passed": wrong})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("length", {"min": 0, "max": 6}),
        ("repetition", {"ngram": 1, "max": 0.4}),
        ("boilerplate", {}),
        ("refusal", {"reject": ["full_refusal"]}),
        ("duplicate_ngrams", {"max": {2: 0.2}}),
        ("symbols", {"max": 0.0}),
    ],
)
def test_filters_of_answers_read_the_same_turns_of_every_row_type(name, parameters):
    """A bad turn counts where it is learned: alone, before another turn, and in a chosen answer."""
    bad = assistant("I cannot help with that. As an AI language model # # # # no no no no no no no no no no no no no")
    good, asked = assistant("Paris is it."), user("Q")
    context = [{**bad[0], "train": False}]
    learned = [
        {"messages": asked + bad},
        {"messages": asked + bad + asked + good},
        {"prompt": asked + bad + asked, "completion": good},
        {"prompt": asked, "completion": bad + [{"role": "tool", "content": "T"}] + good},
        {"prompt": asked, "chosen": bad, "rejected": good},
        {"prompt": asked, "completion": bad, "label": True},
    ]
    other = [
        {"messages": asked + context + asked + good},
        {"prompt": asked + context + asked, "completion": good},
        {"prompt": asked + bad + asked, "chosen": good, "rejected": bad},
        {"prompt": asked + bad + asked, "completion": good, "label": True},
        {"prompt": asked + bad + asked},
        {"messages": asked + good + [{"role": "tool", "content": bad[0]["content"]}] + assistant("Or so.")},
    ]
    function = getattr(basic, name)
    assert all(function(one, **parameters) for one in learned)
    assert [function(one, **parameters) for one in other] == [None] * len(other)
    steps = parse([{name: parameters}])
    sifted = FilterChain(steps, FilterContext(*[Path()] * 4)).sift([*learned, *other])
    assert [verdict is None for verdict in sifted.verdicts] == [False] * len(learned) + [True] * len(other)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a b c d e f", None),
        ("a b c a b c", "50% repeated"),
        ("go go go go", "75% repeated"),
        ("", None),
        # One repeated run of three, 3 of 8 words; two overlapping runs cover 4 words, not 6.
        ("a b c x y a b c", None),
        ("a b c d x a b c d", "44% repeated"),
    ],
)
def test_repetition_is_the_share_of_words_said_before(text, reason):
    assert basic.repetition(row("Hi", text), ngram=3, max=0.4) == reason


def test_the_best_of_a_prompt_is_sampled_rather_than_edited_then_longer():
    rows = [
        row("Hi", "a long edited answer", edited=True),
        row("Hi", "short"),
        row("Hi", "longer answer"),
        row("Ho", "only one", id="b", edited=True),
    ]
    reason = "not the best of its prompt"
    assert list(basic.best(rows, per_prompt=1)) == [reason, reason, None, None]
    assert list(basic.best(rows, per_prompt=2)) == [reason, None, None, None]


def test_only_unfinished_answers_go():
    assert [basic.finished(one) for one in (row("a", "b"), row("a", "b", finished=False))] == [None, "not finished"]


def test_a_column_that_a_filter_needs_is_named():
    with pytest.raises(UserError, match="^expected 'finished' of type bool, got None"):
        basic.finished({"id": "x", "prompt": user("a"), "completion": assistant("b")})
    with pytest.raises(UserError, match="best: row 2 of those left: expected 'edited' of type bool, got None"):
        list(basic.best([row("a", "b"), {"id": "x"}], per_prompt=1))


def test_filters_of_answers_read_them_without_their_reasoning():
    said = "<think>\nI cannot help, or one two three four five six?\n</think>\n\none two three"
    row = {"id": "a", "prompt": user("Count."), "completion": assistant(said), "finished": True}
    cut = {**row, "completion": assistant("<think>\nOne")}
    checked = {**row, "checks": [{"kind": "words_at_most", "n": 3}, {"kind": "starts_with", "phrase": "one"}]}
    assert basic.length(row, min=1, max=3) is None
    assert basic.verified(checked) is None
    assert basic.refusal(row, reject=["full_refusal", "partial_refusal"]) is None
    assert (basic.finished(row), basic.finished(cut)) == (None, "reasoning not finished")
    steps = parse([{"length": {"min": 1, "max": 3}}, {"finished": None}])
    sifted = FilterChain(steps, FilterContext(*[Path()] * 4)).sift(
        [row, cut, row | {"completion": assistant("a b c d")}]
    )
    assert sifted.verdicts == [None, ("length", "0 words"), ("length", "4 words")]
    assert sifted.rows[0] is row  # the row keeps its reasoning
