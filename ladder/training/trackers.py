"""Experiment trackers in addition to the curve, if installed: trackio, wandb, tensorboard, mlflow.

`trainer.report_to` selects trackers. The variable LADDER_REPORT_TO overrides it without an edit of params.yaml.
Trackers do not affect a rung: rung.json and the training fingerprint exclude them. Their files are in
${LADDER_WORK}/trackers, outside the repository, unless a tracker's own variable sets another location (TRACKIO_DIR,
WANDB_DIR, TENSORBOARD_LOGGING_DIR, MLFLOW_TRACKING_URI). wandb runs offline unless WANDB_MODE or WANDB_API_KEY is set.
"""

import importlib.util
import os
from typing import Any

from ladder.pipeline.launch import cache
from ladder.pipeline.names import did_you_mean
from ladder.pipeline.stage import UserError

KEYS = ("report_to", "run_name", "project")
PACKAGES = {"trackio": "trackio", "wandb": "wandb", "tensorboard": "tensorboard", "mlflow": "mlflow"}


def missing_tracker(values: dict[str, Any]) -> str | None:
    """Error message if a tracker in `report_to` is unknown or not installed; None otherwise."""
    for name in _listed(values.get("report_to")):
        if name not in PACKAGES:
            return (
                f"report_to: expected one of {', '.join(PACKAGES)} or none, got {name!r}{did_you_mean(name, PACKAGES)}"
            )
        if importlib.util.find_spec(PACKAGES[name]) is None:
            return f"report_to: {name} is not installed. `pip install {PACKAGES[name]}` installs it."
    return None


def tracking(arguments: dict[str, Any]) -> dict[str, Any]:
    """TrainingArguments for the selected trackers; also sets their locations.

    Errors: UserError naming LADDER_REPORT_TO when it lists an unknown or missing tracker.
    """
    chosen = os.environ.get("LADDER_REPORT_TO")
    given = arguments.get("report_to") if chosen is None else chosen.replace(",", " ").split()
    if chosen is not None and (said := missing_tracker({"report_to": given})):
        raise UserError(f"LADDER_REPORT_TO: {said.removeprefix('report_to: ')}")
    names = _listed(given)
    if names:
        _place(names)
    return {"report_to": names or "none", "project": arguments.get("project", "ladder")}


def without_trackers(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without tracker keys, for rung.json and the fingerprint: trackers do not affect a rung."""
    trainer = settings.get("trainer")
    if not isinstance(trainer, dict) or not set(KEYS) & trainer.keys():
        return settings
    return {**settings, "trainer": {name: value for name, value in trainer.items() if name not in KEYS}}


def _listed(given: Any) -> list[str]:
    names = [given] if isinstance(given, str) else given or []
    return [name for name in names if name != "none"]


def _place(names: list[str]) -> None:
    """Set the location of each tracker's files, unless the user's environment sets it."""
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
