"""Absurd learning rates in every trainer: the training is rejected and leaves no rung; a normal rate passes.

Adam's update of a weight is about the learning rate, and the pico model's weights are about 0.2: rates of 10 and more
overwrite them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import test_distill
import test_distill_features
import test_dpo
import test_gkd
import test_grpo
import test_kto
import test_orpo
import test_ppo
import test_reward
import test_sft
import test_simpo

from conftest import assistant, referenced_pairs, user
from ladder.data.jsonl import write_rows
from ladder.pipeline.stage import UserError
from stages import rloo
from torch_helpers import smaller

ROWS = [{"prompt": user(f"Say {n}."), "completion": assistant(f"It is {n}{n}.")} for n in range(12)]
RUINED = (
    r"the norm of the trained weights grew from \S+ to \S+, \S+ times; expected at most [13]0 times. The training "
    r"ruined the model, so no rung is saved. Lower trainer.learning_rate"
    r"|expected a finite (loss|grad_norm), got \S+ Lower trainer.learning_rate|not saved: \S+ has NaN or infinite"
)


def sft(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_sft.train(folder, base, ROWS, lora=lora, trainer={**test_sft.TRAINER, **trainer})


def dpo(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    write_rows(folder / "rows.jsonl", referenced_pairs(folder, base))
    settings = {**test_dpo.TRAINER, **trainer}
    params = test_dpo.dpo.Params(parent="base", data="reference_logprobs/chat", lora=lora, trainer=settings)
    outputs = [folder / "models/dpo/chat", folder / "chat.json", folder / "chat.tsv"]
    test_dpo.dpo.main(params, base, base, folder / "rows.jsonl", *outputs)


def kto(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_kto.climb(folder, base, referenced_pairs(folder, base), lora=lora, **trainer)


def simpo(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_simpo.climb(folder, base, test_simpo.PAIRS, lora=lora, **trainer)


def orpo(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_orpo.climb(folder, base, test_orpo.PAIRS, lora=lora, **trainer)


def reward(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_reward.made(folder, base, base, lora=lora, **trainer)


def grpo(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_grpo.climbed(folder, base, base, lora=lora, **trainer)


def leave_one_out(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_grpo.climbed(folder, base, base, stage=rloo, lora=lora, **trainer)


def ppo(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_ppo.made(folder, base, base, prompts=8, lora=lora, trainer=trainer)


def gkd(folder: Path, base: Path, lora: Any, trainer: dict[str, Any]) -> None:
    test_gkd.train(folder, base, base, base, ROWS, lora=lora, lmbda=0.5, trainer=trainer)


def distill(folder: Path, base: Path, lora: None, trainer: dict[str, Any]) -> None:
    taught = test_distill.taught(folder, base, ROWS)
    test_distill.train(folder, smaller(folder, base), base, base, taught, **trainer)


def features(folder: Path, base: Path, lora: None, trainer: dict[str, Any]) -> None:
    settings = {"trainer": {**test_distill_features.TRAINER, **trainer}}
    test_distill_features.train(folder, smaller(folder, base), base, ROWS, **settings)


STAGES: list[Callable[..., None]] = [sft, dpo, kto, simpo, orpo, reward, grpo, leave_one_out, ppo, gkd]
TRAININGS = [
    *((stage, lora) for stage in STAGES for lora in (None, {"r": 2})),
    *((stage, None) for stage in (distill, features)),
]
IDS = [f"{stage.__name__}{'-lora' if lora else ''}" for stage, lora in TRAININGS]
STEPS = {"max_steps": 2, "lr_scheduler_type": "constant"}


@pytest.mark.parametrize(("stage", "lora"), TRAININGS, ids=IDS)
def test_a_rate_that_ruins_the_model_is_refused(
    stage: Callable[..., None], lora: Any, tmp_path: Path, base: Path
) -> None:
    rates = (1e6, 1e3) if stage is reward else (1e6, 1e3, 10.0)  # its new head may be large and still order the pairs
    for rate in rates:
        with pytest.raises(UserError, match=RUINED):
            stage(tmp_path, base, lora, {**STEPS, "learning_rate": rate})
        assert not [path for path in tmp_path.glob("models/*/*") if path.parent.name != "prune_layers"]


@pytest.mark.parametrize(("stage", "lora"), TRAININGS, ids=IDS)
def test_a_high_rate_that_does_not_ruin_it_passes(
    stage: Callable[..., None], lora: Any, tmp_path: Path, base: Path
) -> None:
    stage(tmp_path, base, lora, {**STEPS, "learning_rate": 1e-2})
    assert [path for path in tmp_path.glob("models/*/*") if path.parent.name != "prune_layers"]
