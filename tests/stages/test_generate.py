import json

import pytest

from conftest import assistant, user
from endpoints import Said, serving
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError, fit
from ladder.synthesis.rejection_sampling import Draws, asked
from ladder.training.sft_examples import examples
from stages import filter, source
from stages.generate import Params, main


def generate(tmp_path, base, split="sft"):
    prompts = [
        {"id": "b", "split": "sft", "prompt": user("One?"), "checks": [{"kind": "quoted"}]},
        {"id": "a", "split": "sft", "prompt": user("Two?"), "checks": [{"kind": "lowercase"}]},
        {"id": "c", "split": "heldout", "prompt": user("Three?"), "checks": []},
    ]
    write_rows(tmp_path / "prompts.jsonl", prompts)
    settings = {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 5, "seed": 0, "edits": False}
    params = Params(prompts="prompts", model="base", endpoint=None, split=split, **settings)
    main(params, tmp_path / "prompts.jsonl", base, base, tmp_path / "rows.jsonl", tmp_path / "generate.json")
    return read_rows(tmp_path / "rows.jsonl")


def test_every_prompt_of_the_split_is_answered_and_judged(tmp_path, base):
    rows = generate(tmp_path, base)
    assert [(row["id"], row["sample"]) for row in rows] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
    assert rows[0]["completion"] != rows[1]["completion"]
    assert all(row["tokens"] <= 5 and len(row["passed"]) == 1 for row in rows)
    metrics = json.loads((tmp_path / "generate.json").read_text())
    passed = sum(all(row["passed"]) for row in rows)
    assert metrics == {
        "pass_rate": 25.0 * passed,
        "finish_rate": 25.0 * sum(row["finished"] for row in rows),
        "samples": 4,
        "edited": 0,
    }


def test_a_request_that_an_endpoint_cannot_answer_is_a_row_without_an_answer_and_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    write_rows(tmp_path / "prompts.jsonl", [{"id": str(n), "prompt": user(f"{n}?"), "checks": []} for n in range(4)])
    settings = {"split": None, "samples": 1, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 5, "seed": 0}
    cut = Said("Yes.", finish="length", usage=False)  # still a reply
    faults = {"2?": Said("no", status=500), "3?": cut}
    with serving(lambda body, _: faults.get(body["messages"][0]["content"], Said("Yes."))) as server:
        where = {"base_url": server.base_url, "model": "big", "retries": 0, "max_failed": 0.25}
        params = Params(prompts="prompts", model="base", endpoint=where, edits=False, **settings)
        outputs = (tmp_path / "rows.jsonl", tmp_path / "generate.json")
        main(params, tmp_path / "prompts.jsonl", tmp_path, tmp_path, *outputs)
    said = [(row["completion"][0]["content"], row["finished"]) for row in read_rows(tmp_path / "rows.jsonl")]
    assert said == [("Yes.", True), ("Yes.", True), ("", False), ("Yes.", False)]
    metrics = json.loads((tmp_path / "generate.json").read_text())
    assert metrics == {"finish_rate": 50.0, "samples": 4, "edited": 0, "no_reply": 1, "model": "big"}


def test_reasoning_that_a_server_sends_apart_is_kept_in_the_row(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    write_rows(tmp_path / "prompts.jsonl", [{"id": str(n), "prompt": user(f"{n}?"), "checks": []} for n in range(2)])

    def reply(body, _):
        alone = body["messages"][0]["content"] == "1?"
        message = {"role": "assistant", "content": None if alone else "42", "reasoning_content": "Six sevens."}
        choice = {"index": 0, "finish_reason": "length" if alone else "stop", "message": message}
        return Said(body=json.dumps({"id": "a", "model": "m", "choices": [choice]}).encode())

    settings = {"split": None, "samples": 1, "temperature": 0.0, "top_p": 1.0, "max_new_tokens": 5, "seed": 0}
    with serving(reply) as server:
        where = {"base_url": server.base_url, "model": "big", "retries": 0}
        params = Params(prompts="prompts", model="base", endpoint=where, edits=False, **settings)
        outputs = (tmp_path / "rows.jsonl", tmp_path / "generate.json")
        main(params, tmp_path / "prompts.jsonl", tmp_path, tmp_path, *outputs)
    first, second = (row["completion"][0] for row in read_rows(tmp_path / "rows.jsonl"))
    assert first == {"role": "assistant", "content": "42", "reasoning_content": "Six sevens."}
    assert second == {"role": "assistant", "content": "<think>\nSix sevens."}
    assert json.loads((tmp_path / "generate.json").read_text())["unfinished_reasoning"] == 1


def test_no_split_asks_every_prompt(tmp_path, base):
    assert [row["id"] for row in generate(tmp_path, base, None)] == ["b", "b", "a", "a", "c", "c"]


def test_a_split_without_prompts_is_named(tmp_path, base):
    with pytest.raises(UserError, match="prompts.jsonl: no row of split 'stf'; expected one of heldout, sft"):
        generate(tmp_path, base, "stf")


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"id": "a", "prompt": user("Hi"), "checks": "x"}, "row 1: expected 'checks' of type list, got 'x'"),
        ({"id": "a", "messages": assistant("Hi")}, "prompt 1: expected"),
        ({"prompt": user("Hi"), "checks": []}, "row 1: expected 'id' of type str"),
        ({"id": "a", "prompt": "Hi", "checks": []}, "prompt 1: expected"),
    ],
)
def test_rows_that_are_no_prompts_are_named(tmp_path, row, named):
    write_rows(tmp_path / "prompts.jsonl", [row])
    draws = Draws(split=None, samples=1, temperature=1.0, top_p=1.0, max_new_tokens=5, seed=0)
    with pytest.raises(UserError, match=f"prompts.jsonl: {named}"):
        asked(draws, tmp_path / "prompts.jsonl")


PUBLISHED = [
    {"prompt": "Name a river."},
    {"messages": [*user("Name a sea."), *assistant("The Black Sea."), *user("Another?"), *assistant("The Red Sea.")]},
]


def test_published_prompts_are_answered_filtered_and_read_as_what_is_learned(tmp_path, base, ifeval_files):
    """The model reads only the part of a conversation before the published answer."""
    (tmp_path / "raw").mkdir()
    write_rows(tmp_path / "raw/rows.jsonl", PUBLISHED)
    section = {"source": "rows.jsonl", "license": "mit", "rows": "prompt"}
    outputs = [tmp_path / name for name in ("published.jsonl", "quarantine.jsonl", "source.json")]
    source.main(fit(source.Params, section, "source.published"), tmp_path / "raw", *outputs)
    settings = {"samples": 2, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 5, "seed": 0, "edits": False}
    params = Params(prompts="source/published", model="base", endpoint=None, split=None, **settings)
    main(params, outputs[0], base, base, tmp_path / "said.jsonl", tmp_path / "generate.json")
    asked_for = [user("Name a river.")] * 2 + [PUBLISHED[1]["messages"][:3]] * 2
    said = read_rows(tmp_path / "said.jsonl")
    assert [row["prompt"] for row in said] == asked_for
    assert [row["source"]["row"] for row in said] == ["rows.jsonl:1"] * 2 + ["rows.jsonl:2"] * 2
    metrics = json.loads((tmp_path / "generate.json").read_text())
    assert metrics == {"finish_rate": 25.0 * sum(row["finished"] for row in said), "samples": 4, "edited": 0}

    section = {"data": "generate/said", "model": "base", "steps": [{"verified": None}, {"decontaminate": {"ngram": 8}}]}
    outputs = [tmp_path / f"kept{end}" for end in (".jsonl", ".rejected.jsonl", ".rejected.md", ".json", ".tsv")]
    steps = fit(filter.Params, section, "filter.said")
    filter.main(steps, tmp_path / "said.jsonl", ifeval_files[0].parent, base, base, tmp_path, *outputs)
    kept = read_rows(outputs[0])
    assert kept == said
    learned = examples(kept, outputs[0], load(base, base).tokenizer, None)
    assert len(learned) == 4


def test_a_row_of_messages_is_asked_the_part_before_its_answer(tmp_path):
    write_rows(tmp_path / "prompts.jsonl", [{"id": "a", **PUBLISHED[1]}])
    draws = Draws(split=None, samples=1, temperature=1.0, top_p=1.0, max_new_tokens=5, seed=0)
    (row,) = asked(draws, tmp_path / "prompts.jsonl")
    assert (row["prompt"], row["checks"]) == (PUBLISHED[1]["messages"][:3], [])
