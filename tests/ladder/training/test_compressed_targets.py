import pytest
import torch

from ladder.pipeline.stage import UserError
from ladder.training.distill_losses import divergence_from_target
from ladder.training.teacher_logits import Taught, dense, keep, load_taught, save_taught, target

LOGPS = torch.tensor([[0.4, 0.25, 0.05, 0.15, 0.02, 0.13], [0.9, 0.04, 0.03, 0.01, 0.01, 0.01]]).log()


def at_every_start(logps, top_k, samples, starts=2000):
    """What is stored for one distribution, over an even grid of random starts: an expectation, not a sample."""
    grid = (torch.arange(starts, dtype=torch.float64) + 0.5) / starts
    return target(keep(logps.expand(starts, -1), grid, top_k=top_k, samples=samples))


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize(("top_k", "samples"), [(0, 4), (2, 3), (2, 1)])
def test_sampled_targets_are_unbiased(row, top_k, samples):
    targets = at_every_start(LOGPS[row : row + 1], top_k, samples)
    torch.testing.assert_close(targets.weights.sum(-1), torch.ones(2000))
    torch.testing.assert_close(dense(targets, 6).mean(0), LOGPS[row].exp(), atol=1e-3, rtol=0)


def test_their_divergence_and_its_gradient_are_those_of_the_dense_ones():
    student = torch.tensor([[0.3, -0.2, 0.5, 0.1, 0.0, -0.4]])
    targets = at_every_start(LOGPS[:1], 2, 3)
    parts = (targets.indices, targets.weights, targets.rest, targets.entropy)
    sampled = student.clone().requires_grad_()
    estimate = divergence_from_target(sampled.expand(2000, -1), *parts, temperature=1.0).mean()
    full = student.clone().requires_grad_()
    exact = (LOGPS[:1].exp() * (LOGPS[:1] - full.log_softmax(-1))).sum()
    torch.testing.assert_close(estimate, exact, atol=1e-3, rtol=0)
    estimate.backward(), exact.backward()
    torch.testing.assert_close(sampled.grad, full.grad, atol=1e-3, rtol=0)


def test_a_count_is_the_expected_one_rounded_up_or_down():
    # others after the head 0.4: 0.25, 0.05, 0.15, 0.02, 0.13 of 0.6; 12 draws expect 5, 1, 3, 0.4, 2.6
    starts = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    kept = keep(LOGPS[:1].expand(50, -1), starts, top_k=1, samples=12)
    counts = torch.stack([(kept.draws == token).sum(-1) for token in range(6)], -1)
    expected = 12 * torch.tensor([0, 0.25, 0.05, 0.15, 0.02, 0.13]) / 0.6
    assert (counts - expected).abs().max() < 1


def test_without_draws_the_mass_of_the_others_is_kept():
    of = target(keep(LOGPS[:1], torch.zeros(1, dtype=torch.float64), top_k=2, samples=0))
    torch.testing.assert_close(of.weights, torch.tensor([[0.4, 0.25]]), atol=1e-3, rtol=0)
    torch.testing.assert_close(of.rest, torch.tensor([0.35]), atol=1e-3, rtol=0)
    torch.testing.assert_close(dense(of, 6)[0, 2:], torch.full((4,), 0.35 / 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("vocabulary", [6, 70_000])
def test_a_file_gives_back_what_was_written(tmp_path, vocabulary):
    kept = keep(LOGPS, torch.tensor([0.1, 0.7], dtype=torch.float64), top_k=2, samples=3)
    ids, masks = [[5, 1, 0], [3, 2]], [[False, True, False], [False, True]]
    taught = Taught([*map(torch.tensor, ids)], [*map(torch.tensor, masks)], kept, 1.5, "a" * 64)
    save_taught(tmp_path / "taught.safetensors", taught, vocabulary=vocabulary)
    read = load_taught(tmp_path / "taught.safetensors")
    assert (read.temperature, read.teacher) == (1.5, "a" * 64)
    for ours, theirs in zip([*read.ids, *read.learned], [*taught.ids, *taught.learned], strict=True):
        assert torch.equal(ours, theirs)
    for name in ("head", "head_logps", "draws", "rest_logp", "entropy"):
        assert torch.equal(getattr(read.kept, name), getattr(kept, name))


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "taught.safetensors"
    path.write_bytes(b"cut")
    with pytest.raises(UserError, match=r"taught.safetensors: not a file of teacher targets"):
        load_taught(path)
