"""Micro-batches by tokens: the same training as TRL's padded one, for every split."""

import json

import pytest
import torch
from datasets import Dataset
from transformers import Gemma2Config, Gemma2ForCausalLM
from trl import SFTConfig, SFTTrainer

from ladder.training.micro_batches import one_batch, split_packed, split_padded
from ladder.training.row_layout import lay_out
from ladder.training.token_budget import optimizer_bytes, tokens_within
from perf.pico import pico_model, pico_tokenizer
from stages.sft import TokenBatchedSFT

LENGTHS = [7, 31, 12, 3, 22, 9, 18, 5]


def rows(count=16):
    """Rows whose first third has no loss."""
    made = []
    for number in range(count):
        length = LENGTHS[number % len(LENGTHS)]
        ids = [(17 * number + 5 * place) % 250 + 3 for place in range(length)]
        made.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3 :]})
    return made


def arguments(folder, **changed):
    return {
        "output_dir": str(folder), "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "max_steps": 4,
        "learning_rate": 1e-2, "bf16": False, "use_cpu": True, "logging_steps": 1, "report_to": "none",
        "save_strategy": "no", "disable_tqdm": True, "gradient_checkpointing": False, "remove_unused_columns": False,
        "dataset_kwargs": {"skip_prepare_dataset": True}, "seed": 3, **changed,
    }  # fmt: skip


def trainer(kind, folder, model=None, **changed):
    given = arguments(folder, **changed)
    config = SFTConfig(**(given if kind is SFTTrainer else one_batch(given)))
    model = model or pico_model(pico_tokenizer())
    return kind(model, args=config, train_dataset=Dataset.from_list(rows()), processing_class=pico_tokenizer())


def trained(made):
    made.train()
    logs = [
        {name: log[name] for name in ("loss", "grad_norm", "mean_token_accuracy", "entropy")}
        for log in made.state.log_history
        if "loss" in log
    ]
    return logs, {name: weight.detach() for name, weight in made.model.named_parameters()}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """TRL's own training: padded batches of eight rows."""
    whole = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    return trained(trainer(SFTTrainer, tmp_path_factory.mktemp("stock"), **whole))


def same(found, wanted):
    (logs, weights), (logs_wanted, weights_wanted) = found, wanted
    for log, log_wanted in zip(logs, logs_wanted, strict=True):
        assert log == pytest.approx(log_wanted, rel=1e-4, abs=1e-5)
    for name, weight in weights_wanted.items():
        assert torch.allclose(weights[name], weight, atol=1e-4), name


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("tokens", [None, 40, 1])
def test_every_split_trains_as_trl_does(tmp_path, stock, packed, tokens):
    ours = trainer(TokenBatchedSFT, tmp_path)
    lay_out(ours, ours.model, rows(), packing=False, tokens=None)
    assert ours.packed
    if not packed:
        ours.model.set_attn_implementation("eager")
        ours.packed, ours.collate.padding_free = False, False
    ours.tokens = tokens
    same(trained(ours), stock)


def test_a_step_that_runs_out_of_memory_is_done_again_in_smaller_parts(tmp_path, stock, capsys):
    ours = trainer(TokenBatchedSFT, tmp_path)
    lay_out(ours, ours.model, rows(), packing=False, tokens=None)
    ours.choose(tmp_path / "run")
    assert ours.tokens == 2048
    collate = ours.collate

    def up_to_60_tokens(part):
        if sum(len(row["input_ids"]) for row in part) > 60:
            raise torch.OutOfMemoryError("out of memory")
        return collate(part)

    ours.collate = up_to_60_tokens
    same(trained(ours), stock)
    # the first step's rows have 114 tokens; in two parts they fit
    assert "out of memory in a micro-batch of 114 tokens; continuing with 57" in capsys.readouterr().out
    assert json.loads((tmp_path / "run/micro_batch.json").read_text()) == {"tokens": 57}
    resumed = trainer(TokenBatchedSFT, tmp_path)
    resumed.choose(tmp_path / "run")
    assert resumed.tokens == 57


def test_one_row_that_does_not_fit_is_an_error(tmp_path):
    ours = trainer(TokenBatchedSFT, tmp_path)

    def never(part):
        raise torch.OutOfMemoryError("out of memory")

    ours.use(never, packed=True, tokens=None)
    with pytest.raises(torch.OutOfMemoryError):
        ours.train()
    assert ours.out_of_memory() == (
        "out of memory with one row: set trainer.gradient_checkpointing: true (slower, far less memory)"
    )


def test_a_model_that_cannot_pack_is_padded_and_says_so(tmp_path, capsys):
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Gemma2Config(vocab_size=len(pico_tokenizer()), num_key_value_heads=2, head_dim=8, pad_token_id=0, **shape)
    torch.manual_seed(0)
    model = Gemma2ForCausalLM._from_config(config, attn_implementation="eager")
    ours = trainer(TokenBatchedSFT, tmp_path, model)
    lay_out(ours, ours.model, rows(), packing=False, tokens=40)
    assert (ours.packed, ours.model.config._attn_implementation) == (False, "eager")
    wanted = "rows are padded: this model's attention uses softcap, which packed attention does not support\n"
    assert capsys.readouterr().out == wanted
    ours.choose(tmp_path)
    assert ours.tokens == 40


def test_splits():
    # longest first, each into the emptiest part: 31 | 22 + 3 | 18 + 7 | 12 + 9 + 5
    assert split_packed(LENGTHS, 32) == [[1], [3, 4], [0, 6], [2, 5, 7]]
    assert split_packed(LENGTHS, 1000) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert split_packed([5, 5], 3) == [[0], [1]]
    assert split_packed([1, 1, 1, 1], 100, least=3) == [[0, 3], [1], [2]]
    # by length 3 5 7 | 9 12 | 18 | 22 | 31: three rows of 7 are 21 tokens, two rows of 12 are 24
    assert split_padded(LENGTHS, 24) == [[3, 7, 0], [5, 2], [6], [4], [1]]
    assert split_padded([4, 4, 4, 4], 100, least=2) == [[0, 1], [2, 3]]


def test_the_budget_by_hand():
    # 139 GB usable at 92%, 20 GB fixed, 5 MB a token: 107.88 GB / 5 MB = 21,576, with 84 * 256 whole
    assert tokens_within(0.92 * 139e9, 20e9, 5e6) == 84 * 256
    assert tokens_within(1e9, 2e9, 5e6) == 256
    assert tokens_within(1e15, 0, 1.0) == 65_536
    layer = torch.nn.Linear(10, 10, bias=False)
    assert [optimizer_bytes(layer, name) for name in ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "sgd")] == [
        800, 200, 0, 0,
    ]  # fmt: skip
