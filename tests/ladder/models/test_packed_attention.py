import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import MistralConfig, MistralForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from ladder.models.packed_attention import attend, attend_packed, isolation_gate, packed_attention
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer

COLLATE = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
ROWS = [{"input_ids": list(range(start, start + n)), "labels": [1] * n} for start, n in ((5, 9), (90, 1), (40, 17))]


@pytest.fixture
def model():
    return pico_model(pico_tokenizer())


def test_each_sequence_is_attended_alone():
    torch.manual_seed(0)
    query, key, value = torch.randn(13, 4, 8), torch.randn(13, 2, 8), torch.randn(13, 2, 8)
    scores = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(2, 1)) * 0.3
    sequence = torch.tensor([0] * 5 + [1] + [2] * 7)
    seen = (sequence[:, None] == sequence[None]) & torch.ones(13, 13, dtype=torch.bool).tril()
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    wanted = torch.einsum("hqk,khd->qhd", weights, value.repeat_interleave(2, 1))
    assert torch.allclose(attend(query, key, value, torch.tensor([0, 5, 6, 13]), 7, 0.3), wanted, atol=1e-6)


def test_packed_logits_are_the_lone_ones(model):
    alone = [model(torch.tensor([row["input_ids"]])).logits[0] for row in ROWS]
    attend_packed(model)
    tokens = [token for row in ROWS for token in row["input_ids"]]
    lengths = [len(row["input_ids"]) for row in ROWS]
    batch = COLLATE([{"input_ids": tokens, "labels": tokens, "seq_lengths": lengths}])
    batch.pop("labels")
    assert torch.allclose(model(**batch, use_cache=False).logits[0], torch.cat(alone), atol=1e-4)


def test_a_sliding_window_is_that_of_transformers():
    """Mistral's attention with a window of 4 tokens, rows longer and shorter than it."""
    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(vocab_size=300, num_key_value_heads=2, sliding_window=4, initializer_range=0.2, **shape)
    model = MistralForCausalLM._from_config(config, attn_implementation="eager")
    alone = [model(torch.tensor([row["input_ids"]])).logits[0] for row in ROWS]
    attend_packed(model)
    batch = COLLATE(ROWS)
    batch.pop("labels")
    assert torch.allclose(model(**batch, use_cache=False).logits[0], torch.cat(alone), atol=1e-5)


def test_one_causal_sequence_is_plain_attention():
    q = torch.randn(6, 2, 8)
    wanted = scaled_dot_product_attention(*[q.transpose(0, 1)] * 3, is_causal=True).transpose(0, 1)
    assert torch.allclose(attend(q, q, q, torch.tensor([0, 6]), 6, None), wanted, atol=1e-6)


def test_the_gate_detects_rows_that_attend_to_each_other(model):
    def without_edges(rows):
        batch = COLLATE(rows)
        return {"input_ids": batch["input_ids"], "labels": batch["labels"]}

    with pytest.raises(UserError, match="packed rows attend to each other"):
        isolation_gate(model, without_edges, [ROWS[0], ROWS[2]])
    attend_packed(model)
    isolation_gate(model, COLLATE, [ROWS[0], ROWS[2]])


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"dropout": 0.1}, "attention_dropout"),
        ({"s_aux": torch.zeros(2)}, "attention sinks"),
        ({"softcap": 50.0}, "softcap"),
    ],
)
def test_what_the_kernel_does_not_compute_is_refused(asked, named):
    states = torch.randn(1, 2, 6, 8)
    edges = {"cu_seq_lens_q": torch.tensor([0, 6]), "max_length_q": 6}
    with pytest.raises(UserError, match=f"uses {named}"):
        packed_attention(None, states, states, states, None, **edges, **asked)
