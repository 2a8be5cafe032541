import json

import pytest

from conftest import assistant, user
from ladder.generation import Answer
from ladder.rows import read_rows, write_rows
from ladder.run import Refused
from ladder.samples import judged, rates
from stages.preferences import Params, main, pairs


def row(name, text, passed, finished=True):
    said = {"prompt": user("Hi"), "completion": assistant(text)}
    return {"id": name, "edited": False, "finished": finished, "passed": [passed], **said}


def test_the_pair_nearest_in_length_is_chosen():
    rows = [
        row("a", "one two three four", True),
        row("a", "one", True),
        row("a", "three four five", False),
        row("a", "a b c d e f g", False),
        row("b", "all good", True),
        row("c", "good but cut", True, finished=False),
        row("c", "good", True),
    ]
    made = pairs(rows, 1)
    assert [(pair["chosen"][0]["content"], pair["rejected"][0]["content"]) for pair in made] == [
        ("one two three four", "three four five"),
        ("good", "good but cut"),
    ]
    assert [pair["rejected_finished"] for pair in made] == [True, False]
    assert len(pairs(rows, 2)) == 3


def test_an_answer_cut_before_its_first_word_is_not_rejected():
    cut, short = row("a", "", False, finished=False), row("a", "no, not at all", False)
    assert pairs([row("a", "yes", True), cut], 1) == []
    assert [pair["rejected"] for pair in pairs([row("a", "yes", True), cut, short], 2)] == [short["completion"]]
    ended = row("a", "", False)  # the stop token is there to reject
    assert [pair["rejected"] for pair in pairs([row("a", "yes", True), ended], 1)] == [assistant("")]


def test_an_edit_is_judged_again_and_marked():
    prompt = {"id": "a", "prompt": user("Say hello."), "checks": [{"kind": "lowercase"}]}
    rows = judged(
        [prompt],
        [Answer("Hello there. It is fine.", 6, True), Answer("hello, it is a good day.", 8, True)],
        2,
        edits=True,
    )
    assert [(row["sample"], row["edited"], row["passed"], row["completion"][0]["content"]) for row in rows] == [
        (0, False, [False], "Hello there. It is fine."),
        (0, True, [True], "hello there. it is fine."),
        (1, False, [True], "hello, it is a good day."),
    ]
    assert rates(rows) == {"pass_rate": 50.0, "finish_rate": 100.0}


def sampled(tmp_path, base, checks):
    prompts = [{"id": str(n), "split": "preferences", "prompt": user(f"Say {n}."), "checks": checks} for n in range(3)]
    write_rows(tmp_path / "prompts.jsonl", [*prompts, {**prompts[0], "split": "sft"}])
    settings = {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6, "seed": 0, "pairs_per_prompt": 1}
    params = Params(prompts="prompts", model="base", endpoint=None, split="preferences", edits=True, **settings)
    outputs = [tmp_path / "pairs.jsonl", tmp_path / "pairs.json"]
    main(params, tmp_path / "prompts.jsonl", base, base, *outputs)
    return read_rows(outputs[0]), json.loads(outputs[1].read_text())


def test_a_policys_own_answers_become_pairs(tmp_path, base):
    made, counts = sampled(tmp_path, base, [{"kind": "ends_with", "phrase": "the end."}])
    assert counts["pairs"] == len(made) == 3
    assert all(pair["chosen"][0]["content"].endswith("the end.") for pair in made)
    again, _ = sampled(tmp_path, base, [{"kind": "ends_with", "phrase": "the end."}])
    assert again == made


def test_no_pair_at_all_is_refused(tmp_path, base):
    with pytest.raises(Refused, match="no prompt has both an answer that meets its checks and one that does not"):
        sampled(tmp_path, base, [{"kind": "includes_words", "words": ["x" * 300]}, {"kind": "words_at_most", "n": 0}])
