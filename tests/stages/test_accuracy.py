import json

import pytest

from conftest import PAIRS
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError
from stages import accuracy


def score(tmp_path, base, rows):
    write_rows(tmp_path / "heldout.jsonl", rows)
    outputs = [tmp_path / "scores.jsonl", tmp_path / "summary.json", tmp_path / "metrics.json"]
    accuracy.main(accuracy.Params(data="reference_logprobs/heldout"), tmp_path / "heldout.jsonl", base, base, *outputs)
    summary, metrics = (json.loads(path.read_text()) for path in outputs[1:])
    assert metrics == {name: value for name, value in summary.items() if name not in ("interval", "made_by")}
    return read_rows(outputs[0]), summary


def test_the_reference_has_no_relative_margin(tmp_path, base, referenced):
    scores, metrics = score(tmp_path, base, referenced)
    assert not any("relative_margin" in row for row in scores)
    assert metrics.keys() == {"normalized_accuracy", "normalized_margin", "interval", "made_by"}
    tokenizer = load(base, base).tokenizer
    for row, pair, found in zip(referenced, PAIRS, scores, strict=True):
        chosen, rejected = (len(tokenizer(pair[name][0]["content"]).input_ids) + 1 for name in ("chosen", "rejected"))
        assert (found["chosen_tokens"], found["rejected_tokens"]) == (chosen, rejected)
        assert found["chosen_logp"] == pytest.approx(row["ref_chosen_logps"], abs=1e-4)
        margin = row["ref_chosen_logps"] / chosen - row["ref_rejected_logps"] / rejected
        assert found["normalized_margin"] == pytest.approx(margin, abs=1e-4)


def test_relative_accuracy_counts_the_pairs_that_moved_the_right_way(tmp_path, base, referenced):
    # another reference, which preferred the chosen answers less by 2, 2, 2 and more by 1
    moved = [
        {**row, "reference": "0" * 64, "ref_chosen_logps": row["ref_chosen_logps"] - shift}
        for row, shift in zip(referenced, (2, 2, 2, -1), strict=True)
    ]
    scores, metrics = score(tmp_path, base, moved)
    assert [row["relative_margin"] for row in scores] == pytest.approx([2, 2, 2, -1], abs=1e-4)
    assert metrics["relative_accuracy"] == 75
    assert metrics["relative_margin"] == pytest.approx(5 / 4, abs=1e-3)
    interval = metrics["interval"]
    assert 0 <= interval["relative_accuracy_low"] < 75 < interval["relative_accuracy_high"] <= 100
    assert (metrics["made_by"]["pairs"], metrics["made_by"]["rung"]["name"]) == (4, "base")


def test_ties_count_half_and_pairs_of_one_prompt_are_resampled_together(tmp_path):
    scored = [{"id": name, "normalized_margin": margin} for name, margin in zip("aaab", (1, 2, 0, -1), strict=True)]
    means, interval = accuracy.summary(scored, tmp_path)
    assert means == {"normalized_accuracy": 62.5, "normalized_margin": 0.5}
    # in a quarter of all resamples of two prompts only a is drawn (2.5 of 3, margin 1), in a quarter only b
    assert (interval["normalized_accuracy_low"], interval["normalized_accuracy_high"]) == (0, 83.3333)
    assert (interval["normalized_margin_low"], interval["normalized_margin_high"]) == (-1, 1)


def test_what_it_cannot_score_is_refused(tmp_path, base, referenced):
    with pytest.raises(UserError, match="heldout.jsonl: row 1: expected 'ref_chosen_logps'"):
        score(tmp_path, base, PAIRS)
    with pytest.raises(UserError, match="heldout.jsonl: row 2: expected 'id'"):
        score(tmp_path, base, [referenced[0], {**referenced[1], "id": None}])


def test_one_pair_is_scored(tmp_path, base, referenced):
    scores, metrics = score(tmp_path, base, referenced[:1])
    assert metrics["normalized_margin"] == pytest.approx(scores[0]["normalized_margin"], abs=1e-4)
    # Wilson 1927 for 0 or 1 of 1: z^2 / (1 + z^2) wide
    width = metrics["interval"]["normalized_accuracy_high"] - metrics["interval"]["normalized_accuracy_low"]
    assert width == pytest.approx(100 * 1.959964**2 / (1 + 1.959964**2), abs=1e-3)
