import pytest
import torch
from datasets import Dataset
from test_grpo import climbed, gain
from trl import RLOOConfig

from conftest import user
from ladder.models.checkpoint import read_rung
from perf.pico import pico_model, pico_tokenizer
from stages import rloo


def test_it_learns(tmp_path, base):
    directory, samples, curve = climbed(
        tmp_path, base, base, stage=rloo, beta=0.0, per_device_train_batch_size=32, max_steps=20
    )
    assert gain(curve, 32) > 5
    assert curve[-1]["reward"] > 1.5 * curve[0]["reward"]
    rung = read_rung(directory)
    assert (rung.method, rung.kind, rung.parents) == ("rloo", "complete", {"base": read_rung(base).identity})
    assert {row["step"] for row in samples} == {0, 10}


def test_the_baseline_is_the_mean_of_the_others(tmp_path, base):
    _, samples, curve = climbed(tmp_path, base, base, stage=rloo, lora={"r": 2}, beta=0.1)
    assert curve[0]["kl"] == pytest.approx(0, abs=1e-5)
    for group in (samples[:8], samples[8:]):
        reward = [row["rewards"]["checks"] for row in group]
        expected = [value - (sum(reward) - value) / 7 for value in reward]
        assert [row["advantage"] for row in group] == pytest.approx(expected, abs=1e-4)


def test_the_gradient_is_reinforces_and_the_ratio_is_the_whole_answers(tmp_path):
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer).eval()
    config = RLOOConfig(output_dir=str(tmp_path), report_to="none", bf16=False, use_cpu=True, beta=0.0, epsilon=0.2)
    prompt = Dataset.from_list([{"prompt": user("Say."), "row": "{}"}])
    trainer = rloo.SlotTrainer(model, [lambda **_: []], config, prompt, processing_class=tokenizer)
    ids = torch.tensor([[7, 8, 9], [7, 8, 9]])
    said, mask = torch.tensor([[40, 0, 0], [50, 60, 70]]), torch.tensor([[1, 0, 0], [1, 1, 1]])
    advantage = torch.tensor([-1.0, 0.5])

    def logps():
        logits = model(torch.cat([ids, said], 1), attention_mask=torch.cat([torch.ones_like(ids), mask], 1)).logits
        return (logits[:, 2:-1].log_softmax(-1).gather(-1, said[..., None])[..., 0] * mask).sum(1)

    inputs = {"prompt_ids": ids, "prompt_mask": torch.ones_like(ids), "completion_ids": said, "completion_mask": mask}
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    by_hand = torch.autograd.grad(-(advantage * logps()).mean(), weights)
    old = logps().detach()
    loss = trainer.compute_loss(model, {**inputs, "advantages": advantage, "old_logps": old})
    for ours, theirs in zip(by_hand, torch.autograd.grad(loss, weights), strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-4)
    # A = -1 with rho 1.5 costs 1.5; A = 0.5 with rho 1.5 is clipped to 1.2, a gain of 0.6
    moved = {**inputs, "advantages": advantage, "old_logps": old - torch.tensor(1.5).log()}
    assert trainer.compute_loss(model, moved).item() == pytest.approx((1.5 - 0.6) / 2, abs=1e-5)
