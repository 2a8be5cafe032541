"""Trackers in addition to the curve. The tests of a tracker run where its package is installed."""

import importlib.util
import json
import os
import sqlite3
from pathlib import Path

import pytest

from ladder.data.jsonl import write_rows
from ladder.pipeline.stage import UserError, fit
from ladder.training.trackers import missing_tracker, tracking, without_trackers
from stages import sft


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tracked"))
    monkeypatch.delenv("LADDER_REPORT_TO", raising=False)


def test_a_tracker_is_no_part_of_the_recorded_settings():
    settings = {"lora": None, "trainer": {"seed": 1, "report_to": "trackio", "run_name": "first", "project": "own"}}
    assert without_trackers(settings) == {"lora": None, "trainer": {"seed": 1}}
    assert without_trackers({"parent": "base"}) == {"parent": "base"}


def test_only_trackers_that_are_installed_are_accepted(monkeypatch):
    assert missing_tracker({"report_to": "none"}) is None and missing_tracker({}) is None
    assert missing_tracker({"report_to": "all"}) == (
        "report_to: expected one of trackio, wandb, tensorboard, mlflow or none, got 'all'"
    )
    for name in ("trackio", "wandb", "tensorboard", "mlflow"):
        said = missing_tracker({"report_to": ["none", name]})
        installed = importlib.util.find_spec(name) is not None
        assert said == (None if installed else f"report_to: {name} is not installed. `pip install {name}` installs it.")
    monkeypatch.setenv("LADDER_REPORT_TO", "clearml")
    with pytest.raises(
        UserError, match="LADDER_REPORT_TO: expected one of trackio, wandb, tensorboard, mlflow or none"
    ):
        tracking({})


def test_the_environment_wins(monkeypatch):
    assert tracking({})["report_to"] == "none"
    monkeypatch.setenv("LADDER_REPORT_TO", "none")
    assert tracking({"report_to": "trackio"})["report_to"] == "none"


def train(tmp_path, base, rows, name, **trainer):
    write_rows(tmp_path / "rows.jsonl", rows)
    steps = {"max_steps": 3, "per_device_train_batch_size": 4, "bf16": False}
    section = {"parent": "base", "data": "filter", "lora": {"r": 2}, "trainer": {**steps, **trainer}}
    output = tmp_path / name / "sft/chat"
    paths = [tmp_path / f"{name}.{end}" for end in ("txt", "json", "tsv")]
    sft.main(fit(sft.Params, section, "sft.chat"), base, base, tmp_path / "rows.jsonl", output, *paths)
    header, *lines = (line.split("\t") for line in paths[2].read_text().splitlines())
    losses = [float(line[header.index("loss")]) for line in lines]
    return {path.name: path.read_bytes() for path in output.iterdir()}, losses


def test_trackio_gets_every_step_and_changes_no_byte(tmp_path, base, rows, monkeypatch):
    pytest.importorskip("trackio")
    plain, losses = train(tmp_path, base, rows, "plain")
    tracked, _ = train(tmp_path, base, rows, "tracked-rung", report_to="trackio")
    assert tracked == plain
    monkeypatch.setenv("LADDER_REPORT_TO", "trackio")
    assert train(tmp_path, base, rows, "environment")[0] == plain
    with sqlite3.connect(Path(os.environ["TRACKIO_DIR"]) / "ladder.db") as database:
        entries = database.execute("select run_name, metrics from metrics order by id").fetchall()
    logged = [json.loads(metrics) for name, metrics in entries if name == "sft/chat"]
    found = [entry["train/loss"] for entry in logged if "train/loss" in entry]
    assert found == pytest.approx(losses * 2, rel=1e-5)


def test_tensorboard_writes_one_event_file(tmp_path, base, rows):
    pytest.importorskip("tensorboard")
    train(tmp_path, base, rows, "board", report_to="tensorboard")
    assert len(list((tmp_path / "tracked").rglob("events.out.tfevents.*"))) == 1
