import pytest
import torch

from ladder.models.heads import Score, reading_pad, scoring
from perf.pico import pico_model, pico_tokenizer


def test_a_score_is_float32_under_autocast():
    torch.manual_seed(0)
    hidden, weight = torch.randn(3, 32), torch.randn(1, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = Score(weight)(hidden.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, hidden.bfloat16().float() @ weight.T)


def test_the_trunk_is_shared_and_the_head_is_zero():
    model = pico_model(pico_tokenizer())
    scored = scoring(model, pico_tokenizer())
    assert scored.model is model.model
    assert not any(weight.is_meta for weight in scored.parameters())
    assert scored(torch.tensor([[5, 6, 7]])).logits.tolist() == [[0.0]]
    assert model.config.num_labels == 2  # the language model's own config is unchanged


@pytest.mark.parametrize("pad", ["<|endoftext|>", "<|im_end|>"])
def test_the_stop_token_is_read_where_the_tokenizer_pads_with_it_too(pad):
    tokenizer = pico_tokenizer()
    tokenizer.pad_token = pad
    assert reading_pad(tokenizer) != tokenizer.eos_token_id
    scored = scoring(pico_model(tokenizer), tokenizer)
    torch.nn.init.ones_(scored.score.weight)
    ids = torch.tensor([[5, 6, tokenizer.eos_token_id], [5, 6, reading_pad(tokenizer)]])
    with_stop, without = scored(ids).logits[:, 0].tolist()
    assert with_stop == pytest.approx(scored.model(ids[:1]).last_hidden_state[0, 2].sum().item(), abs=1e-4)
    assert without == pytest.approx(scored.model(ids[:1]).last_hidden_state[0, 1].sum().item(), abs=1e-4)
