"""Pico ladder in a folder. Its stages run as forks without DVC, so DVC's cache cannot replace a run of a stage."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perf.forks import Fork, apart, fork, preload
from perf.outcomes import PLACES, files_below
from perf.steps import Step, above, read_steps

STAGES = (
    "sft@words", "dpo@chat", "grpo@words", "ppo@words", "distill@small", "generate@chat", "answer@base", "filter@chat",
    "merge@soup",
)  # fmt: skip
"""Every kind of stage that runs for hours on real models, or whose outputs other stages depend on."""
ROLLOUTS = ("grpo", "rloo", "ppo", "gkd")


class Ladder:
    """A repository at `root`; beside it are LADDER_WORK, the folder of temporary files, and a log of each run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder, folder / "ladder"
        self.work, self.temporary = folder / "work", folder / "tmp"
        self.started = 0

    def climb(self, names: Sequence[str], *edits: Callable[[dict[str, Any]], None]) -> list[Step]:
        """Lay out the repository, and run these stages and everything they need; return the steps of these names.

        A name is that of a stage, which selects its first entry, or that of an entry: `sft@words`. Errors: SystemExit
        with the log of a stage that fails.
        """
        apart(_lay_out, self.root, *edits)
        steps = read_steps(self.root)
        wanted = [next(step.name for step in steps if name in (step.stage, step.name)) for name in names]
        self.ran = above(steps, wanted)
        preload({step.stage for step in self.ran})
        for step in self.ran:
            self.fresh(step)
            if (running := self.start(step)).finish():
                raise SystemExit(f"{step.name}: {running.said}")
        return [next(step for step in self.ran if step.name == name) for name in wanted]

    def start(self, step: Step, root: Path | None = None, **environment: str) -> Fork:
        """Start a stage, in `root` if a clone of the repository runs it."""
        self.started += 1
        given = {"LADDER_WORK": str(self.work), "TMPDIR": str(self.temporary), **environment}
        return fork(step.words, root or self.root, given, self.folder / "logs" / f"{self.started:05}.txt")

    def fresh(self, step: Step, *clones: Path) -> None:
        """Remove the stage's outputs and everything that earlier runs saved."""
        outputs = [root / name for root in (self.root, *clones) for name in step.outputs]
        for path in (*outputs, self.work, self.temporary):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self.work.mkdir()
        self.temporary.mkdir()

    def at_work(self, step: Step) -> bool:
        """Whether the stage has begun to write to its work folder, scratch files or outputs."""
        beside = [path for name in step.outputs for path in (self.root / name).parent.glob(f"*{Path(name).stem}*")]
        return any(self.work.iterdir()) or any(self.temporary.iterdir()) or bool(beside)

    def files(self) -> set[Path]:
        """Return all files that stages have written, except locks."""
        written = files_below(self.work, self.temporary, *(self.root / place for place in PLACES))
        return {path for path in written if path.suffix != ".lock"}


def _lay_out(root: Path, *edits: Callable[[dict[str, Any]], None]) -> None:
    from perf.pico import lay_out  # in a fork, because making the model starts threads

    lay_out(root, *edits)


def longer(params: dict[str, Any]) -> None:
    """Edit params.yaml so that trainings take twelve steps and answers a second or two: time enough to be killed."""
    for name, section in params.items():
        for entry in section.values() if isinstance(section, dict) else ():
            if isinstance(entry, dict) and isinstance(trainer := entry.get("trainer"), dict):
                for key in ("num_train_epochs", "gradient_accumulation_steps"):
                    trainer.pop(key, None)
                trainer.update(max_steps=12, bf16=False)
                if name not in ROLLOUTS:  # rollout stages split a batch over the answers to a prompt
                    trainer["per_device_train_batch_size"] = 1
    params["generate"]["chat"]["max_new_tokens"] = 64
    params["answer"]["ifeval"].update(rows=4, max_new_tokens=200)
