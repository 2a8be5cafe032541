import json

import pytest
import torch

from ladder.data.jsonl import write_rows
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError
from ladder.training.teacher_logits import load_taught, target
from stages.teacher_logits import Params, main


def teach(tmp_path, base, rows, **changed):
    write_rows(tmp_path / "rows.jsonl", rows)
    settings = {"temperature": 1.0, "top_k": 8, "samples": 16, "max_length": 64, "seed": 0, "split": None, **changed}
    output, metrics = tmp_path / "small.safetensors", tmp_path / "small.json"
    main(Params(model="base", data="filter", **settings), tmp_path / "rows.jsonl", base, base, output, metrics)
    return load_taught(output), json.loads(metrics.read_text())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_head_is_that_of_a_plain_forward_pass(tmp_path, base, rows, temperature):
    taught, metrics = teach(tmp_path, base, rows, temperature=temperature)
    loaded = load(base, base)
    ids, learned = taught.ids[0], taught.learned[0]
    assert loaded.tokenizer.decode(ids[learned]) == "It is 00.<|im_end|>"
    with torch.no_grad():
        logits = loaded.model(ids[None]).logits[0].float() / temperature
    logps = logits.log_softmax(-1)[learned.nonzero().flatten() - 1]
    count = int(learned.sum())
    expected = logps.gather(-1, taught.kept.head[:count])
    torch.testing.assert_close(taught.kept.head_logps[:count].float(), expected, atol=0.05, rtol=0.02)
    torch.testing.assert_close(
        taught.kept.entropy[:count], torch.special.entr(logps.exp()).sum(-1), atol=0.05, rtol=0.02
    )
    torch.testing.assert_close(target(taught.kept).weights.sum(-1), torch.ones(len(taught.kept.head)))
    assert metrics["tokens"] == sum(int(mask.sum()) for mask in taught.learned)


def test_draws_have_no_bias_where_a_bucket_has(tmp_path, base, rows):
    _, sampled = teach(tmp_path, base, rows, top_k=4, samples=32)
    _, bucket = teach(tmp_path, base, rows, top_k=4, samples=0)
    assert sampled["gradient_bias"] < 2 * sampled["gradient_bias_by_chance"]
    assert bucket["gradient_bias"] > 2 * bucket["gradient_bias_by_chance"]
    assert "kl_dense_decoded" not in sampled


def test_a_whole_vocabulary_is_kept_within_rounding(tmp_path, base, rows):
    _, metrics = teach(tmp_path, base, rows, top_k=259, samples=0)
    assert metrics["kl_dense_decoded"] < 1e-4 and metrics["gradient_error"] < 1e-3


def test_the_same_seed_gives_the_same_bytes(tmp_path, base, rows):
    def written(seed):
        teach(tmp_path, base, rows, seed=seed)
        return (tmp_path / "small.safetensors").read_bytes()

    assert len({written(0) for _ in range(5)}) == 1
    assert written(1) != written(0)


def test_rows_that_do_not_fit_are_refused(tmp_path, base, rows):
    with pytest.raises(UserError, match="rows.jsonl: none of 12 rows fits max_length 3"):
        teach(tmp_path, base, rows, max_length=3)


def test_a_split_without_rows_is_named(tmp_path, base, rows):
    with pytest.raises(UserError, match="rows.jsonl: no row of split 'train'; the rows have no split. Set split: null"):
        teach(tmp_path, base, rows, split="train")
