import hashlib

import pytest

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.pipeline.stage import UserError
from ladder.report.data_card_stats import balance, examples, facts, parts, source, turns
from perf.pico import pico_tokenizer

SYSTEM = [{"role": "system", "content": "Be kind."}]


def row(prompt, answer, **columns):
    return {"prompt": user(prompt), "completion": assistant(answer), **columns}


def card(tmp_path, rows, **settings):
    write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "task").mkdir(exist_ok=True)
    write_rows(tmp_path / "task" / "quiz.jsonl", [{"question": "Which river runs through the city of Rome?"}])
    write_rows(tmp_path / "task" / "other.jsonl", [{"question": "nothing that anybody would ever ask here"}])
    given = {"ngram": 5, "jaccard": 0.8, "shown": 1, **settings}
    return facts(tmp_path / "rows.jsonl", pico_tokenizer(), tmp_path / "task", **given)


def test_what_a_file_holds_counted_by_hand(tmp_path):
    checks = [{"kind": "no_commas"}, {"kind": "lowercase"}]
    long = "one two three four five six seven eight nine ten eleven twelve"
    rows = [
        row("Say it.", "It is é.", id="a", checks=checks, edited=True, source={"name": "own", "row": 3}),
        row("say  IT.", "it is É.", id="b", checks=checks[:1], edited=False),
        row("Count.", long, id="c", checks=[], edited=False),
        row("Count.", f"{long} thirteen", id="d", checks=[], edited=False),
        row("Tell me which river runs through the city.", "Tiber.", id="e", checks=[], edited=False),
    ]
    found = card(tmp_path, rows)
    data = (tmp_path / "rows.jsonl").read_bytes()
    assert (found["sha256"], found["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
    assert (found["rows"], found["type"]) == (5, ["prompt", "completion"])
    assert found["columns"] == {"prompt": 5, "completion": 5, "id": 5, "checks": 5, "edited": 5, "source": 1}
    assert found["true"] == {"edited": 1}
    assert found["sources"] == {"": 4, "own": 1}
    assert "models" not in found
    assert found["turns"] == {"2": 5}
    assert found["checks"] == {"kinds": {"no_commas": 2, "lowercase": 1}, "of_a_row": {"0": 3, "1": 1, "2": 1}}
    # c and d: question and answer (13 and 14 words) have 9 and 10 runs of 5, of them 9 in common.
    assert found["duplicates"] == {"exact": 1, "near": 2, "jaccard": 0.8, "ngram": 5}
    assert found["contamination"]["benchmarks"] == {"other": 0, "quiz": 1}
    (span,) = found["contamination"]["spans"]
    assert span["row"] == "e"
    assert span["span"].startswith("in quiz: which river runs through the city")


def test_the_model_that_wrote_an_answer_is_counted(tmp_path):
    rows = [row("Say it.", "It.", model=model) for model in ("small", "big", "big")]
    assert card(tmp_path, [*rows, row("Say it.", "It.")])["models"] == {"big": 2, "small": 1}


def test_lengths_are_in_characters_words_and_the_tokenizers_own_tokens(tmp_path):
    """The pico tokenizer has one token per byte."""
    found = card(tmp_path, [row("Say it.", "It's é."), row("Go", "")])["lengths"]
    assert found["prompt"]["characters"]["total"] == 9
    assert found["answer"]["characters"] == {
        **{"total": 7, "mean": 3.5, "p5": 0, "median": 0, "p95": 7, "max": 7},
        "histogram": {"0": 1, "1": 0, "2-3": 0, "4-7": 1},
    }
    assert found["answer"]["words"]["max"] == 3  # it, s, é
    assert found["answer"]["tokens"]["max"] == len("It's é.".encode()) == 8


def test_every_type_of_row_has_its_parts_and_turns():
    pair = {"prompt": SYSTEM + user("Hi"), "chosen": assistant("Good."), "rejected": assistant("Bad.")}
    assert parts(pair) == {"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."}
    assert turns(pair) == 2
    talk = {"messages": SYSTEM + user("One?") + assistant("1.") + user("Two?") + assistant("2.")}
    assert parts(talk) == {"prompt": "One?\nTwo?", "answer": "1.\n2."}
    assert turns(talk) == 4
    assert parts({"prompt": user("Hi"), "completion": []}) == {"prompt": "Hi"}
    assert source({"source": {"name": "own", "row": 1}}) == "own"
    assert source({"source": None}) == source({}) == ""


def test_prompts_alone_and_pairs_have_cards_too(tmp_path):
    prompts = card(tmp_path, [{"id": "a", "prompt": user("Hi"), "checks": []}])
    assert (prompts["type"], prompts["columns"]) == (["prompt"], {"id": 1, "prompt": 1, "checks": 1})
    assert prompts["checks"] == {}
    assert "balance" not in prompts
    pairs = [{"prompt": user(f"Q{n}"), "chosen": assistant("a b c"), "rejected": assistant("a b")} for n in range(4)]
    found = card(tmp_path, pairs)
    assert found["balance"] == {
        "chosen_longer_by_words": 1.0,
        "chosen_longer_low": 1.0,
        "chosen_longer_high": 1.0,
        "chosen_longer_percent": 100.0,
    }


def test_how_much_longer_chosen_is_has_an_interval_over_prompts():
    """Two prompts with 0 and 10: a resample's mean is 0, 5 or 10, with 1/4, 1/2, 1/4."""

    def pair(prompt, chosen, rejected):
        return {"prompt": user(prompt), "chosen": assistant("a " * chosen), "rejected": assistant("a " * rejected)}

    assert balance([pair("a", 3, 3), pair("b", 12, 2)]) == {
        "chosen_longer_by_words": 5.0,
        "chosen_longer_low": 0.0,
        "chosen_longer_high": 10.0,
        "chosen_longer_percent": 50.0,
    }
    of_one = balance([pair("a", 3, 3), pair("a", 12, 2)])  # one prompt: nothing else can be drawn
    assert (of_one["chosen_longer_low"], of_one["chosen_longer_high"]) == (5.0, 5.0)


def test_pairs_of_one_chosen_answer_are_no_duplicates_of_each_other(tmp_path):
    """A ranking of three answers: its pairs share a chosen answer but are not equal."""
    ranked = [
        {"prompt": user("Q"), "chosen": assistant(better), "rejected": assistant(worse)}
        for better, worse in [("best", "middling"), ("best", "worst"), ("middling", "worst")]
    ]
    assert card(tmp_path, ranked)["duplicates"]["exact"] == 0
    assert card(tmp_path, [*ranked, ranked[1]])["duplicates"]["exact"] == 1


def test_examples_change_by_one_at_most_where_a_row_is_added():
    rows = [row(f"Q{n}", "A") for n in range(200)]
    drawn = examples(rows, 5)
    assert [one for one in rows if one in drawn] == drawn
    more = examples([*rows, row("new", "A")], 5)
    assert sum(one in drawn for one in more) >= 4
    assert examples(rows, 0) == []


def test_what_has_no_card_is_refused(tmp_path):
    with pytest.raises(UserError, match="rows.jsonl: rows of several types: prompt \\+ completion, or messages"):
        card(tmp_path, [row("a", "b"), {"messages": user("Hi")}])
    with pytest.raises(UserError, match="rows.jsonl: no rows"):
        card(tmp_path, [])
    with pytest.raises(UserError, match="rows.jsonl:2: chosen: expected"):
        card(tmp_path, [{"messages": user("Hi")}, {"prompt": user("Hi"), "chosen": "text", "rejected": []}])
