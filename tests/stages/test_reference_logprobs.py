import pytest
import torch

from conftest import assistant, user
from ladder.data.jsonl import read_rows, write_rows
from ladder.models.checkpoint import load
from ladder.models.scoring import batches, completion_logps
from ladder.pipeline.stage import UserError
from ladder.training.pair_examples import pair_tokens
from stages.reference_logprobs import Params, main


def test_log_probabilities_are_those_of_a_plain_forward_pass(base):
    loaded = load(base, base, dtype=torch.float32)
    prompts, completions = [[5, 6, 7], [8, 9], [10, 11, 12, 13]], [[20, 21], [30, 31, 32, 33, 34], [40]]
    found = completion_logps(loaded, prompts, completions, tokens=14)
    for prompt, completion, sum_ in zip(prompts, completions, found, strict=True):
        ids = torch.tensor([prompt + completion])
        with torch.no_grad():
            logps = loaded.model(ids).logits.log_softmax(-1)[0]
        expected = sum(logps[len(prompt) - 1 + place, token].item() for place, token in enumerate(completion))
        assert sum_ == pytest.approx(expected, abs=1e-4)


def test_batches_hold_every_row_once_within_the_tokens():
    lengths = [3, 10, 4, 4, 9, 1]
    groups = list(batches(lengths, 12))
    assert groups == [[1], [4], [2, 3, 0], [5]]


def test_rows_keep_their_columns_and_name_the_reference(tmp_path, base):
    row = {"id": "a", "prompt": user("Hi"), "chosen": assistant("Yes"), "rejected": assistant("No")}
    write_rows(tmp_path / "pairs.jsonl", [row])
    main(Params(model="base", data="x"), tmp_path / "pairs.jsonl", base, base, tmp_path / "reference.jsonl")
    (found,) = read_rows(tmp_path / "reference.jsonl")
    loaded = load(base, base)
    assert found.pop("reference") == loaded.rung.identity
    assert found.pop("ref_chosen_logps") < 0 and found.pop("ref_rejected_logps") < 0
    assert found == row


def test_a_cut_answer_gets_no_stop_token(base):
    tokenizer = load(base, base).tokenizer
    row = {"prompt": user("Hi"), "chosen": assistant("Yes"), "rejected": assistant("No"), "rejected_finished": False}
    tokens = pair_tokens(tokenizer, row, "")
    assert tokenizer.decode(tokens["chosen_ids"]) == "Yes<|im_end|>"
    assert tokenizer.decode(tokens["rejected_ids"]) == "No"


def test_a_row_that_is_no_pair_is_named(base):
    tokenizer = load(base, base).tokenizer
    with pytest.raises(UserError, match="pairs.jsonl: row 4: chosen: expected"):
        pair_tokens(tokenizer, {"prompt": user("Hi"), "rejected": assistant("No")}, "pairs.jsonl: row 4")
    same = {"prompt": user("Hi"), "chosen": assistant("No"), "rejected": assistant("No")}
    with pytest.raises(UserError, match="row 5: expected two different answers"):
        pair_tokens(tokenizer, same, "pairs.jsonl: row 5")


def test_unpaired_preferences_get_the_log_probability_of_their_answer(tmp_path, base):
    row = {"id": "a", "prompt": user("Hi"), "completion": assistant("Yes"), "label": False}
    pair = {"prompt": user("Hi"), "chosen": assistant("Yes"), "rejected": assistant("No")}
    for name, made in (("unpaired", row), ("pairs", pair)):
        write_rows(tmp_path / f"{name}.jsonl", [made])
        main(Params(model="base", data="x"), tmp_path / f"{name}.jsonl", base, base, tmp_path / f"{name}.out.jsonl")
    (found,), (expected,) = (read_rows(tmp_path / f"{name}.out.jsonl") for name in ("unpaired", "pairs"))
    assert found.pop("reference") == expected["reference"]
    assert found.pop("ref_completion_logps") == pytest.approx(expected["ref_chosen_logps"], abs=1e-3)
    assert found == row
