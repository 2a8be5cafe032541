"""Experiment trackers beside the curve: trackio, wandb, tensorboard, mlflow, where they are installed.

A tracker is chosen by `trainer.report_to` or, without an edit of params.yaml, by LADDER_REPORT_TO, which wins. It is
no part of a rung: rung.json and the fingerprint of a training leave it out. Its files lie in ${LADDER_WORK}/trackers,
outside the repository, unless its own variable names another place (TRACKIO_DIR, WANDB_DIR, TENSORBOARD_LOGGING_DIR,
MLFLOW_TRACKING_URI). wandb stays offline unless WANDB_MODE or WANDB_API_KEY is set.
"""

import importlib.util
import os
from typing import Any

from ladder.pipeline.launch import cache
from ladder.pipeline.stage import UserError

KEYS = ("report_to", "run_name", "project")
PACKAGES = {"trackio": "trackio", "wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow"}


def missing_tracker(values: dict[str, Any]) -> str | None:
    """Why `report_to` cannot work here, as a sentence."""
    for name in _listed(values.get("report_to")):
        if name not in PACKAGES:
            return f"report_to: expected {', '.join(PACKAGES)} or none, got {name!r}"
        if importlib.util.find_spec(PACKAGES[name]) is None:
            return f"report_to: {name} is not installed; `pip install {PACKAGES[name]}` installs it"
    return None


def tracking(arguments: dict[str, Any]) -> dict[str, Any]:
    """TrainingArguments of the trackers that were chosen, and their folders. Errors: UserError naming the variable."""
    chosen = os.environ.get("LADDER_REPORT_TO")
    given = arguments.get("report_to") if chosen is None else chosen.replace(",", " ").split()
    if chosen is not None and (said := missing_tracker({"report_to": given})):
        raise UserError(f"LADDER_REPORT_TO: {said.removeprefix('report_to: ')}")
    names = _listed(given)
    if names:
        _place(names)
    return {"report_to": names or "none", "project": arguments.get("project", "ladder")}


def without_trackers(settings: dict[str, Any]) -> dict[str, Any]:
    """A stage's settings as they are recorded: a tracker decides nothing of the rung."""
    trainer = settings.get("trainer")
    if not isinstance(trainer, dict) or not set(KEYS) & trainer.keys():
        return settings
    return {**settings, "trainer": {name: value for name, value in trainer.items() if name not in KEYS}}


def _listed(given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given or []
    return [name for name in names if name != "none"]


def _place(names: list[str]) -> None:
    """Set where each tracker writes, unless the user did."""
    folder = cache().absolute() / "trackers"
    places = {
        "trackio": ("TRACKIO_DIR", str(folder / "trackio")),
        "wandb": ("WANDB_DIR", str(folder / "wandb")),
        "tensorboard": ("TENSORBOARD_LOGGING_DIR", str(folder / "tensorboard")),
        "mlflow": ("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}"),
    }
    for name in names:
        variable, place = places[name]
        os.environ.setdefault(variable, place)
    folder.mkdir(parents=True, exist_ok=True)
    for name in {"trackio", "wandb"} & set(names):
        (folder / name).mkdir(exist_ok=True)
    if "wandb" in names and "WANDB_API_KEY" not in os.environ:
        os.environ.setdefault("WANDB_MODE", "offline")
