import json

import pytest

from conftest import user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import load, save_rung
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer
from stages.speculate import Params, greedy, main


def saved(tmp_path, name, **changed):
    tokenizer = pico_tokenizer()
    save_rung(tmp_path / name, pico_model(tokenizer, **changed), tokenizer, rung=name, method="student")
    return tmp_path / name


def speculate(tmp_path, teacher, draft, base, **changed):
    prompts = [{"id": f"p{n}", "split": "heldout", "prompt": user(f"Say {n}.")} for n in range(4)]
    write_rows(tmp_path / "prompts.jsonl", prompts)
    settings = {"lookahead": 3, "max_new_tokens": 12, "dtype": "float32", "prompts": 3, **changed}
    params = Params(data="prompts", split="heldout", teacher="base", draft="draft", **settings)
    outputs = [tmp_path / "speculate.jsonl", tmp_path / "speculate.json"]
    main(params, tmp_path / "prompts.jsonl", teacher, draft, base, *outputs)
    return read_rows(outputs[0]), json.loads(outputs[1].read_text())


@pytest.mark.parametrize("lookahead", [0, 1, 3, 20])
@pytest.mark.parametrize("seed", [0, 5])
def test_the_answer_is_the_one_of_transformers_generate(tmp_path, base, lookahead, seed):
    teacher = load(base, base)
    model, draft = teacher.model.float(), pico_model(pico_tokenizer(), seed=seed, layers=1)
    prompt = teacher.tokenizer("Say it.").input_ids
    said = greedy(model, draft, prompt, lookahead=lookahead, limit=15, stop=teacher.stop)
    ids = teacher.tokenizer("Say it.", return_tensors="pt")
    expected = model.generate(**ids, max_new_tokens=15, do_sample=False)[0, len(prompt) :].tolist()
    assert said.tokens == expected
    if not lookahead:
        assert (said.passes, said.accepted, said.refused) == (len(expected), 0, 0)


def test_a_draft_like_its_teacher_is_never_refused(tmp_path, base):
    rows, metrics = speculate(tmp_path, base, base, base)
    assert (metrics["acceptance_rate"], metrics["equal"], metrics["prompts"]) == (1.0, 3, 3)
    for row in rows:  # three drafted tokens and the teacher's own in each pass
        assert row["passes"] == -(-row["tokens"] // 4) and row["refused"] == 0
    assert metrics["tokens_per_teacher_pass"] == pytest.approx(
        sum(row["tokens"] for row in rows) / sum(row["passes"] for row in rows), abs=1e-3
    )


def test_a_draft_unlike_its_teacher_changes_no_answer(tmp_path, base):
    likewise, _ = speculate(tmp_path, base, base, base)
    rows, metrics = speculate(tmp_path, base, saved(tmp_path, "other", seed=3), base)
    assert [row["completion"] for row in rows] == [row["completion"] for row in likewise]
    assert metrics["acceptance_rate"] < 0.5 and metrics["equal"] == 3 and metrics["widest_margin"] == 0


def test_another_tokenizer_is_refused(tmp_path, base):
    tokenizer = pico_tokenizer()
    tokenizer.add_tokens(["<new>"])
    save_rung(tmp_path / "other", pico_model(tokenizer), tokenizer, rung="other", method="sft")
    with pytest.raises(UserError, match="base and other: expected the same tokenizer"):
        speculate(tmp_path, base, tmp_path / "other", base)
