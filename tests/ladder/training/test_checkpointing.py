"""A training that is killed, and what it leaves. Every run here is a separate process."""

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import sys

import pytest
import torch
import transformers
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from conftest import assistant, unfinished, user
from ladder.data.jsonl import write_rows
from ladder.models.config_passthrough import build
from ladder.pipeline.disk import Faults, check_space
from ladder.pipeline.stage import UserError
from ladder.training.checkpointing import damage, fingerprint, held, mark, newest
from ladder.training.model_setup import climb
from ladder.training.train import fit_and_save, trainer_arguments
from ladder.training.validation import Validation
from stages import dpo, reference_logprobs, sft

STEPS = {"max_steps": 10, "per_device_train_batch_size": 2, "bf16": False, "learning_rate": 1e-3}
LORA = {"r": 2, "lora_dropout": 0.1}  # dropout: the random state must resume where it stopped


pytestmark = pytest.mark.usefixtures("server")  # before the first test starts a process


class Killer(transformers.TrainerCallback):
    def on_step_begin(self, args, state, control, **rest):
        if state.global_step == int(os.environ["KILLED_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)


def run(train, folder, work, base, killed_at):
    torch.set_num_threads(1)
    os.environ.update(LADDER_WORK=str(work), LADDER_SAVE_SECONDS="0", KILLED_AT=str(killed_at))
    transformers.trainer.DEFAULT_CALLBACKS.append(Killer)
    folder.mkdir(exist_ok=True)
    with (folder / "said").open("w") as said, contextlib.redirect_stdout(said):
        train(folder, base)


def child(server, train, folder, work, base, killed_at=-1):
    """Return the exit code and the output of one training."""
    process = server.Process(target=run, args=(train, folder, work, base, killed_at))
    process.start()
    process.join()
    return process.exitcode, (folder / "said").read_text()


def outcome(folder):
    """sha256 of the rung's files, and the curve."""
    rung = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*/chat/*")}
    return rung, [line.split("\t") for line in (folder / "curve.tsv").read_text().splitlines()]


def answers():
    return [{"prompt": user(f"Say {n}."), "completion": assistant(f"It is {n}{n}.")} for n in range(12)]


def sft_adapter(folder, base, lora=LORA):
    write_rows(folder / "rows.jsonl", answers())
    params = sft.Params(parent="base", data="filter", lora=lora, trainer=STEPS)
    paths = [folder / name for name in ("rows.jsonl", "sft/chat", "masks.txt", "metrics.json", "curve.tsv")]
    sft.main(params, base, base, *paths)


def sft_full(folder, base):
    sft_adapter(folder, base, lora=None)


def sft_best(folder, base):
    """The best checkpoint precedes the step at which the training is killed."""
    write_rows(folder / "rows.jsonl", answers())
    evaluated = {"eval_strategy": "steps", "eval_steps": 2, "load_best_model_at_end": True, "greater_is_better": True}
    trainer = {**STEPS, **evaluated}
    validation = Validation(prompts=3)
    params = sft.Params(parent="base", data="filter", lora=LORA, trainer=trainer, validation=validation)
    paths = [folder / name for name in ("rows.jsonl", "sft/chat", "masks.txt", "metrics.json", "curve.tsv")]
    sft.main(params, base, base, *paths)


def dpo_adapter(folder, base):
    pairs = [
        {"id": str(n), "prompt": user(f"{n}?"), "chosen": assistant(f"{n}!"), "rejected": assistant(f"{n} or so")}
        for n in range(12)
    ]
    write_rows(folder / "pairs.jsonl", pairs)
    reference_logprobs.main(
        reference_logprobs.Params(model="base", data="pairs"), folder / "pairs.jsonl", base, base, folder / "rows.jsonl"
    )
    params = dpo.Params(parent="base", data="reference_logprobs/chat", lora=LORA, trainer=STEPS)
    dpo.main(params, base, base, *(folder / name for name in ("rows.jsonl", "dpo/chat", "metrics.json", "curve.tsv")))


class Filler(transformers.TrainerCallback):
    """From the seventh step on, no file may exceed 4,000 bytes, as on a full disk."""

    def on_step_begin(self, args, state, control, **rest):
        if state.global_step == 6:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))


def sft_on_a_full_disk(folder, base):
    transformers.trainer.DEFAULT_CALLBACKS.append(Filler)
    try:
        with Faults([folder / "sft/chat"]):
            sft_adapter(folder, base)
    except UserError as refusal:
        sys.exit(str(refusal))


def rollouts(folder, base):
    """A trainer that samples its own data, keeps rollouts for two steps, and shuffles by itself."""
    arguments = {**STEPS, "max_steps": 12, "num_generations": 2, "steps_per_generation": 2, "max_completion_length": 4}
    with trainer_arguments(arguments) as given:
        config = build(GRPOConfig, given)
        climbed = climb(base, base, LORA, seed=config.seed)
        trainer = GRPOTrainer(
            climbed.start.model,
            reward_funcs=lambda completions, **_: [float(len(c[0]["content"]) % 3) for c in completions],
            args=config,
            train_dataset=Dataset.from_list([{"prompt": user(f"Say {n}.")} for n in range(6)]),
            processing_class=climbed.start.tokenizer,
        )
        fit_and_save(
            trainer,
            climbed,
            rung="grpo/chat",
            method="grpo",
            settings=arguments,
            parents={"base": climbed.parent},
            output=folder / "grpo/chat",
            metrics=folder / "metrics.json",
            curve=folder / "curve.tsv",
            measured={},
            endings={"reward": "reward"},
            resume_every=2,
        )


@pytest.mark.parametrize(
    ("train", "killed_at", "resumed_at"),
    [(sft_adapter, 8, 8), (sft_full, 6, 6), (sft_best, 7, 7), (dpo_adapter, 8, 8), (rollouts, 9, 8)],
)
def test_a_killed_training_ends_as_one_that_was_not(tmp_path, base, server, train, killed_at, resumed_at):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert child(server, train, whole, tmp_path / "work", base)[0] == 0
    assert not unfinished(tmp_path / "work")
    assert child(server, train, killed, tmp_path / "work", base, killed_at)[0] == -signal.SIGKILL
    assert not list(killed.glob("*/chat"))
    code, said = child(server, train, killed, tmp_path / "work", base)
    assert code == 0 and f"resuming at step {resumed_at} of 1" in said
    assert outcome(killed) == outcome(whole)
    assert len(outcome(whole)[1]) >= 11
    assert not unfinished(tmp_path / "work")


@pytest.fixture(scope="module")
def killed(tmp_path_factory, base, server):
    """A work folder as SIGKILL left it at step 6, and the outcome of the same training without a kill."""
    folder = tmp_path_factory.mktemp("killed")
    child(server, sft_adapter, folder / "whole", folder / "none", base)
    assert child(server, sft_adapter, folder / "killed", folder / "work", base, 6)[0] == -signal.SIGKILL
    return folder / "work", outcome(folder / "whole")


def no_state(checkpoint):
    (checkpoint / "trainer_state.json").unlink()


def cut_weights(checkpoint):
    os.truncate(checkpoint / "adapter_model.safetensors", 100)


def cut_optimizer(checkpoint):
    os.truncate(checkpoint / "optimizer.pt", 100)


def no_marker(checkpoint):
    (checkpoint / "whole.json").unlink()


@pytest.mark.parametrize(
    ("tear", "reported"),
    [
        (no_state, "checkpoint-6: incomplete: trainer_state.json is missing; not used"),
        (cut_weights, "checkpoint-6: incomplete: adapter_model.safetensors has 100 of"),
        (cut_optimizer, "checkpoint-6: incomplete: optimizer.pt has 100 of"),
        (no_marker, "checkpoint-6: incomplete: its process ended while saving it; not used"),
    ],
)
def test_a_torn_checkpoint_is_reported_and_the_one_before_is_taken(tmp_path, base, server, killed, tear, reported):
    work, whole = killed
    shutil.copytree(work, tmp_path / "work")
    checkpoints = sorted((tmp_path / "work").glob("*/checkpoint-*"))
    assert [path.name for path in checkpoints] == ["checkpoint-5", "checkpoint-6"]
    tear(checkpoints[1])
    code, said = child(server, sft_adapter, tmp_path / "resumed", tmp_path / "work", base)
    assert code == 0 and reported in said and "resuming at step 5 of 10\n" in said
    assert outcome(tmp_path / "resumed") == whole


def other_rate(folder, base):
    STEPS["learning_rate"] = 2e-3
    sft_adapter(folder, base)


def test_another_recipe_never_goes_on_from_it(tmp_path, base, server, killed):
    shutil.copytree(killed[0], tmp_path / "work")
    code, said = child(server, other_rate, tmp_path / "other", tmp_path / "work", base)
    assert (code, said) == (0, "")
    assert outcome(tmp_path / "other") != killed[1]


def test_a_disk_that_is_full_in_a_training_keeps_the_checkpoints(tmp_path, base, server, killed):
    code, _ = child(server, sft_on_a_full_disk, tmp_path / "full", tmp_path / "work", base)
    kept = sorted(path.name for path in (tmp_path / "work").glob("*/checkpoint-*") if damage(path) is None)
    assert code == 1 and "checkpoint-6" in kept
    code, said = child(server, sft_adapter, tmp_path / "resumed", tmp_path / "work", base)
    assert code == 0 and "checkpoint-7: incomplete" in said and "resuming at step 6 of 10" in said
    assert outcome(tmp_path / "resumed") == killed[1]


def test_a_second_run_is_refused_by_the_pid_of_the_first(tmp_path):
    refusal = pytest.raises(UserError, match=f"process {os.getpid()} is training this rung")
    with held(tmp_path / "work"), refusal, held(tmp_path / "work"):
        pass
    assert not (tmp_path / "work").exists()


def test_an_empty_folder_has_no_checkpoint(tmp_path, capsys):
    (tmp_path / "checkpoint-9").mkdir()
    (tmp_path / "checkpoint-10").mkdir()
    mark(tmp_path / "checkpoint-9")
    assert damage(tmp_path / "checkpoint-9") is None
    assert newest(tmp_path) == tmp_path / "checkpoint-9"
    assert "checkpoint-10: incomplete" in capsys.readouterr().out and not (tmp_path / "checkpoint-10").exists()


def test_the_fingerprint_is_over_rows_and_recipe(monkeypatch):
    rows = [{"ids": [1, 2]}, {"ids": [3]}]
    prints = {
        fingerprint(Dataset.from_list(rows), settings={"r": 1}),
        fingerprint(Dataset.from_list(rows[::-1]), settings={"r": 1}),
        fingerprint(Dataset.from_list(rows), settings={"r": 2}),
        fingerprint([{"ids": torch.tensor([1, 2])}], settings={"r": 1}),
        fingerprint([{"ids": torch.tensor([[1, 2]])}], settings={"r": 1}),
        fingerprint([{"ids": torch.tensor([1, 2]).half()}], settings={"r": 1}),
    }
    assert len(prints) == 6
    assert fingerprint(Dataset.from_list(rows), settings={"r": 1}) in prints
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fingerprint(Dataset.from_list(rows), settings={"r": 1}) not in prints


def test_a_full_disk_is_refused_before_training(tmp_path):
    check_space(tmp_path / "not/there/yet", 1, "the rung")
    with pytest.raises(UserError, match=r"the rung needs 1000000000000000000 bytes, got \d+ free"):
        check_space(tmp_path / "not/there/yet", 10**18, "the rung")
