import json

import pytest
import torch

from conftest import assistant, user
from ladder.chat.encode import encode
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import load, read_rung, save_rung
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer
from stages.divergence import Params, main


def saved(tmp_path, name, seed):
    tokenizer = pico_tokenizer()
    save_rung(tmp_path / name, pico_model(tokenizer, seed=seed), tokenizer, rung=name, method="sft")
    return tmp_path / name


def measure(tmp_path, teacher, rung, base, rows):
    write_rows(tmp_path / "rows.jsonl", rows)
    outputs = [tmp_path / "divergence.jsonl", tmp_path / "summary.json", tmp_path / "metrics.json"]
    params = Params(data="rows", split=None, teacher="teacher")
    main(params, tmp_path / "rows.jsonl", teacher, rung, base, *outputs)
    summary = json.loads(outputs[1].read_text())
    assert summary["made_by"]["rung"] == read_rung(rung).provenance
    means = {name: value for name, value in summary.items() if name not in ("interval", "made_by")}
    assert json.loads(outputs[2].read_text()) == means and len(means) == 5
    return read_rows(outputs[0]), {**means, **summary["interval"]}


def test_sums_and_means_are_those_of_two_plain_forward_passes(tmp_path, base, rows):
    rung = saved(tmp_path, "other", 3)
    # different lengths, so that rows are padded and must return to their order
    rows = [{**row, "id": f"r{n}", "completion": assistant("x" * (n + 1))} for n, row in enumerate(rows[:3])]
    found, metrics = measure(tmp_path, base, rung, base, rows)
    assert [row["id"] for row in found] == ["r0", "r1", "r2"]
    teacher, other = load(base, base), load(rung, base)
    for row, of in zip(rows, found, strict=True):
        ids, mask = encode(teacher.tokenizer, row["prompt"] + row["completion"])
        places = torch.tensor(mask).nonzero().flatten()
        with torch.no_grad():
            p, q = (
                m.model(torch.tensor([ids])).logits[0, places - 1].float().log_softmax(-1) for m in (teacher, other)
            )
        assert of["tokens"] == len(places) == sum(mask)
        assert of["kl"] == pytest.approx((p.exp() * (p - q)).sum().item(), rel=0.03)
        answer = torch.tensor(ids)[places, None]
        assert of["cross_entropy"] == pytest.approx(-q.gather(-1, answer).sum().item(), rel=0.03)
        assert of["teacher_cross_entropy"] == pytest.approx(-p.gather(-1, answer).sum().item(), rel=0.03)
    tokens = sum(row["tokens"] for row in found)
    assert metrics["kl"] == pytest.approx(sum(row["kl"] for row in found) / tokens, abs=1e-5)
    assert metrics["kl_low"] <= metrics["kl"] <= metrics["kl_high"]


def test_a_rung_does_not_diverge_from_itself(tmp_path, base, rows):
    _, metrics = measure(tmp_path, base, base, base, rows)
    assert (metrics["kl"], metrics["kl_low"], metrics["kl_high"]) == (0, 0, 0)
    assert metrics["cross_entropy"] == metrics["teacher_cross_entropy"]


def test_another_tokenizer_is_refused(tmp_path, base):
    tokenizer = pico_tokenizer()
    tokenizer.add_tokens(["<new>"])
    save_rung(tmp_path / "other", pico_model(tokenizer), tokenizer, rung="other", method="sft")
    rows = [{"prompt": user("Hi"), "completion": assistant("Ho")}]
    with pytest.raises(UserError, match="base and other: expected the same tokenizer"):
        measure(tmp_path, base, tmp_path / "other", base, rows)
