import pytest
import torch
import torch.nn.functional as F

from conftest import pico_model, pico_tokenizer
from ladder.distillation import distillation_loss, load_teacher
from ladder.models import load, read_rung, save_rung
from ladder.rows import write_rows
from ladder.run import Refused
from stages import distill, teacher

TRAINER = {"max_steps": 4, "per_device_train_batch_size": 6, "learning_rate": 0.01, "bf16": False}


def test_the_loss_is_hintons(tmp_path):
    torch.manual_seed(0)
    student, taught = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    labels, temperature, alpha = torch.tensor([1, 2, 3, 4, 5]), 3.0, 0.25
    values, indices = taught.log_softmax(-1).topk(7, dim=-1)
    loss, ce, kl = distillation_loss(student, labels, indices, values, alpha=alpha, temperature=temperature)
    p, q = (taught / temperature).softmax(-1), (student / temperature).softmax(-1)
    expected = (p * (p.log() - q.log())).sum(-1).mean()
    torch.testing.assert_close(kl, expected)
    torch.testing.assert_close(ce, F.cross_entropy(student, labels))
    torch.testing.assert_close(loss, alpha * ce + (1 - alpha) * 9 * expected)


def test_the_gradient_is_that_of_finite_differences():
    torch.manual_seed(0)
    student = torch.randn(2, 6, dtype=torch.float64, requires_grad=True)
    values, indices = torch.randn(2, 6, dtype=torch.float64).log_softmax(-1).topk(3, dim=-1)

    def loss(logits):
        return distillation_loss(logits, torch.tensor([0, 4]), indices, values, alpha=0.5, temperature=2.0)[0]

    assert torch.autograd.gradcheck(loss, (student,))


@pytest.fixture
def taught(tmp_path, base, rows):
    write_rows(tmp_path / "rows.jsonl", rows)
    params = teacher.Params(model="base", data="filter", top_k=8, max_length=64)
    teacher.main(params, tmp_path / "rows.jsonl", base, base, tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def test_the_teachers_logits_are_those_of_a_plain_forward_pass(taught, base):
    logits = load_teacher(taught)
    loaded = load(base, base)
    row = logits.ids[: logits.offsets[1]]
    learned = logits.mask[: logits.offsets[1]].nonzero().flatten()
    assert loaded.tokenizer.decode(row[learned]) == "It is 00.<|im_end|>"
    with torch.no_grad():
        logps = loaded.model(row[None]).logits[0, learned - 1].float().log_softmax(-1)
    torch.testing.assert_close(logits.values[: len(learned)], logps.topk(8, -1).values, atol=0.03, rtol=0.02)
    assert (logits.teacher, logits.values.shape[1]) == (loaded.rung.identity, 8)


def climb(tmp_path, parent, base, teacher_directory, data, dropped):
    params = distill.Params(
        parent="base",
        teacher="base",
        data="teacher/small",
        drop_layers=dropped,
        alpha=0.5,
        temperature=2,
        trainer=TRAINER,
    )
    outputs = [tmp_path / "models/distill/small", tmp_path / "small.json", tmp_path / "small.tsv"]
    distill.main(params, parent, base, teacher_directory, data, *outputs)
    return outputs


def test_a_student_with_a_layer_less_comes_nearer_to_its_teacher(tmp_path, base, taught):
    output, _, curve = climb(tmp_path, base, base, base, taught, [1])
    rung, loaded = read_rung(output), load(output, base)
    assert (rung.kind, rung.method, loaded.model.config.num_hidden_layers) == ("complete", "distill", 1)
    header, *points = (line.split("\t") for line in curve.read_text().splitlines())
    divergence = [float(point[header.index("kl")]) for point in points]
    assert divergence[-1] < divergence[0]
    assert loaded.model.generate(torch.tensor([[5, 6]]), max_new_tokens=3, do_sample=False).shape == (1, 5)


def test_a_layer_that_is_not_there_is_named(tmp_path, base, taught):
    with pytest.raises(Refused, match=r"drop_layers: \[2\] are not layers of a model of 2 \(0 to 1\)"):
        climb(tmp_path, base, base, base, taught, [2])


def test_logits_of_another_teacher_are_refused(tmp_path, base, taught):
    tokenizer = pico_tokenizer()
    save_rung(tmp_path / "other", pico_model(tokenizer, seed=3), tokenizer, rung="other", method="sft")
    with pytest.raises(Refused, match="small.safetensors: made with another model than other as it is now"):
        climb(tmp_path, base, base, tmp_path / "other", taught, [1])


def test_a_cut_file_of_logits_is_named(tmp_path, taught):
    taught.write_bytes(taught.read_bytes()[:-10])
    with pytest.raises(Refused, match="small.safetensors: not a file of teacher logits"):
        load_teacher(taught)
