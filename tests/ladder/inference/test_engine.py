"""Slots against transformers' own `generate`, one prompt at a time, on random pico models."""

import random
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM, TopPLogitsWarper

from ladder.inference.engine import _report_fallback, decode
from ladder.inference.kv_cache import FAMILIES
from ladder.inference.sampling import choose, scramble
from ladder.inference.types import Completion, Sampling
from ladder.pipeline.stage import UserError

VOCABULARY = 96
STOP = [5, 17, 40]


def pico(family: str = "llama", **changes: Any) -> Any:
    """A random model of `family`, fp32, in which three query heads share each of two key/value heads."""
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 48, "intermediate_size": 48, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512}
    special = {"bos_token_id": 1, "eos_token_id": None, "pad_token_id": 0, "initializer_range": 0.4}
    config = AutoConfig.for_model(family, **{**sizes, **heads, **special, "sliding_window": None, **changes})
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32)


def prompts(count: int) -> list[list[int]]:
    """Prompts of 1 to 90 tokens, short and long mixed."""
    draw = random.Random(0)
    return [[draw.randrange(VOCABULARY) for _ in range(draw.choice((1, 2, 7, 30, 90)))] for _ in range(count)]


def one_by_one(model: Any, prompts: list[list[int]], limit: int) -> list[Completion]:
    answers = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=limit, eos_token_id=STOP)
        tokens = out[0, len(prompt) :].tolist()
        finished = tokens[-1] in STOP
        answers.append(Completion(tokens[:-1] if finished else tokens, finished))
    return answers


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_greedy_equals_generate(family: str) -> None:
    model = pico(family).train()
    expected = one_by_one(model.eval(), prompts(16), 70)
    assert len({len(answer.tokens) for answer in expected}) > 5  # otherwise no slot refills while others run
    model.train()
    assert decode(model, prompts(16), Sampling(max_new_tokens=70), stop=STOP, batch=5) == expected
    assert model.training
    assert model.config._attn_implementation == "sdpa"


def test_answers_grow_and_shrink_the_slots() -> None:
    """One long row among short ones needs several capacities, which then shrink again."""
    model = pico()
    mixed = [[9] * 300, *prompts(12)]
    expected = one_by_one(model, mixed, 90)
    assert decode(model, mixed, Sampling(max_new_tokens=90), stop=STOP, batch=3) == expected


def test_an_adapter_answers_and_stays() -> None:
    model = get_peft_model(pico(), LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)).eval()
    expected = one_by_one(model, prompts(6), 20)
    assert decode(model, prompts(6), Sampling(max_new_tokens=20), stop=STOP, batch=4) == expected
    with model.disable_adapter():
        assert decode(model, prompts(6), Sampling(max_new_tokens=20), stop=STOP) != expected


def test_a_family_without_slots_goes_through_padded_generate_and_one_line_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = pico("mistral", sliding_window=16)
    expected = one_by_one(model, prompts(8), 30)
    _report_fallback.cache_clear()
    for _ in range(2):
        assert decode(model, prompts(8), Sampling(max_new_tokens=30), stop=STOP, batch=3) == expected
    text = "engine: the decoder does not support this mistral model: using padded model.generate\n"
    assert capsys.readouterr().out == text
    with pytest.raises(UserError, match="engine: decoder: does not support this mistral model"):
        decode(model, prompts(8), Sampling(max_new_tokens=30), stop=STOP, engine="decoder")


def test_padded_generate_is_taken_where_it_is_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    model, sampling = pico(initializer_range=0.1), Sampling(0.9, 0.9, max_new_tokens=30, seed=3)
    torch.manual_seed(3)
    ids = torch.tensor(prompts(4)[:1])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, temperature=0.9, top_p=0.9, top_k=0,
        max_new_tokens=30, eos_token_id=STOP,
    )  # fmt: skip
    (found,) = decode(model, prompts(4)[:1], sampling, stop=STOP, engine="padded")
    assert found.tokens == out[0, ids.shape[1] :].tolist()[: len(found.tokens)] and found.tokens
    assert [found] != decode(model, prompts(4)[:1], sampling, stop=STOP)
    assert capsys.readouterr().out == ""


def test_draws_do_not_depend_on_the_batch() -> None:
    model = pico(initializer_range=0.1)
    sampling = Sampling(temperature=0.9, top_p=0.9, max_new_tokens=40, seed=3)
    narrow = decode(model, prompts(15), sampling, stop=STOP, batch=3)
    assert narrow == decode(model, prompts(15), sampling, stop=STOP, batch=7)
    assert narrow[:5] == decode(model, prompts(5), sampling, stop=STOP)
    assert narrow != decode(model, prompts(15), Sampling(0.9, 0.9, 40, seed=4), stop=STOP)
    same = decode(model, [[1, 2, 3]] * 4, sampling, stop=[])
    assert len({tuple(answer.tokens) for answer in same}) == 4


class Memory:
    """Memory stub: out of memory in a call with more than `rows` rows, and in the calls with the given numbers."""

    def __init__(self, model: Any, rows: int, calls: tuple[int, ...] = ()) -> None:
        self.rows, self.calls, self.call, self.said = rows, calls, 0, "CUDA error: out of memory"
        model.base_model.register_forward_pre_hook(self.take, with_kwargs=True)

    def take(self, module: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else inputs[0]
        self.call += 1
        if len(ids) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.call in self.calls:
            raise torch.AcceleratorError(self.said)


SAMPLINGS = [Sampling(max_new_tokens=70), Sampling(0.9, 0.9, max_new_tokens=70, seed=3)]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_full_memory_halves_the_slots_and_changes_no_answer(
    sampling: Sampling, capsys: pytest.CaptureFixture[str]
) -> None:
    model = pico(initializer_range=0.1)
    expected = decode(model, prompts(16), sampling, stop=STOP)
    memory = Memory(model, rows=3)
    assert decode(model, prompts(16), sampling, stop=STOP) == expected
    reported = [f"out of memory with a batch of {full}; continuing with {full // 2}" for full in (16, 8, 4)]
    assert capsys.readouterr().out.splitlines() == reported
    memory.rows, memory.call, memory.calls = 16, 0, (20, 60)  # the first is in the middle of an answer
    assert decode(model, prompts(16), sampling, stop=STOP) == expected
    assert capsys.readouterr().out.splitlines() == reported[:2]
    memory.call, memory.said = 0, "CUDA error: an illegal memory access was encountered"
    with pytest.raises(torch.AcceleratorError):
        decode(model, prompts(16), sampling, stop=STOP)
    assert model.config._attn_implementation == "sdpa"


def test_memory_that_holds_no_slot_is_reported() -> None:
    model = pico()
    Memory(model, rows=0)
    said = r"out of memory with a batch of 1. Lower max_new_tokens \(a trainer's max_completion_length\), or end"
    with pytest.raises(UserError, match=said):
        decode(model, prompts(16), Sampling(max_new_tokens=70), stop=STOP)
    with pytest.raises(UserError, match="out of memory with a batch of 5. Lower batch, max_new_tokens"):
        decode(model, prompts(16), Sampling(max_new_tokens=70), stop=STOP, batch=5)
    assert model.config._attn_implementation == "sdpa"


def test_padded_generate_takes_less_memory_too() -> None:
    model = pico("mistral", sliding_window=16)
    expected = one_by_one(model, prompts(20), 30)
    memory = Memory(model, rows=6, calls=(90,))
    assert decode(model, prompts(20), Sampling(max_new_tokens=30), stop=STOP) == expected
    memory.rows = 0
    with pytest.raises(UserError, match="out of memory with a batch of 1. "):
        decode(model, prompts(20), Sampling(max_new_tokens=30), stop=STOP)


def test_limits() -> None:
    model = pico(max_position_embeddings=32)
    by_tokens, by_position = decode(model, [[1] * 20, [1] * 32], Sampling(max_new_tokens=7), stop=[])
    assert (len(by_tokens.tokens), by_tokens.finished) == (7, False)
    assert (len(by_position.tokens), by_position.finished) == (1, False)
    assert decode(model, [], Sampling(), stop=STOP) == []
    with pytest.raises(UserError, match=r"prompt 1: expected 1 to 32 tokens .*, got 33"):
        decode(model, [[1], [1] * 33], Sampling(), stop=STOP)
    with pytest.raises(UserError, match=r"prompt 0: expected 1 to 32 tokens .*, got 0"):
        decode(model, [[]], Sampling(), stop=STOP)
    tuned = get_peft_model(model, PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2))
    with pytest.raises(UserError, match="prompt-learning"):
        decode(tuned, [[1]], Sampling(), stop=STOP)


@pytest.mark.parametrize("top_p", [1.0, 0.7])
def test_draws_follow_the_distribution(top_p: float) -> None:
    """Evenly spaced noise selects every token in proportion to its probability, to one part in the number of draws."""
    logits = torch.linspace(-2, 2, 50)[torch.randperm(50, generator=torch.Generator().manual_seed(0))][None]
    draws = 2**16
    noise = torch.arange(draws) * (2**32 // draws)
    tokens = choose(logits.expand(draws, -1), noise, Sampling(temperature=0.8, top_p=top_p))
    expected = torch.softmax(TopPLogitsWarper(top_p)(None, logits / 0.8), -1)[0]
    torch.testing.assert_close(tokens.bincount(minlength=50) / draws, expected, atol=2 / draws, rtol=0)


def test_scramble_is_lowbias32() -> None:
    """One value by hand, the same on tensors; high bits distributed like uniform ones."""
    assert scramble(1) == scramble(torch.tensor(1)).item()
    bits = scramble(torch.arange(2**16))
    assert len(bits.unique()) == 2**16  # a bijection
    assert abs((bits.double() / 2**32).mean().item() - 0.5) < 3 * (1 / 12 / 2**16) ** 0.5
