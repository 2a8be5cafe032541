"""Real disk faults: /dev/full, limits on file size, and file systems that are small or read-only."""

import errno
import os
import shlex
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT
from ladder.pipeline.disk import Faults, check_writable, fault
from ladder.pipeline.stage import UserError

STAGE = [sys.executable, "-m", "stages.prompts", str(ROOT / "data/seeds"), "disk/prompts.jsonl"]
COUNT = "{sft: 400, preferences: 2, heldout: 2}"
AGAIN = "and run again: it resumes from the last saved state."


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "params.yaml").write_text(f"prompts: {{count: {COUNT}, seed: 0, constraints_max: 1}}\n")
    return tmp_path


def stage(folder, before=""):
    """Run a stage in a shell after `before`, and return its result."""
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "LADDER_WORK": str(folder / "work")}
    return subprocess.run(
        ["sh", "-c", f"{before} exec {shlex.join(STAGE)}"], cwd=folder, env=environment, capture_output=True, text=True
    )


def mounting(folder, command):
    """A command that mounts something at `disk`, in its own namespace, and then runs a stage."""
    (folder / "disk").mkdir()
    own = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    probe = subprocess.run([*own, command], cwd=folder, capture_output=True, text=True)
    if probe.returncode:
        pytest.skip(f"no file systems can be mounted here: {probe.stderr.strip()}")
    return shlex.join([*own, f'{command} && exec "$@"', "sh"])


def mounted(folder, command):
    before = mounting(folder, command)
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "LADDER_WORK": str(folder / "work")}
    return subprocess.run(
        f"{before} {shlex.join(STAGE)}", shell=True, cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_full_disk_is_refused_before_the_work(folder):
    done = mounted(folder, "mount -t tmpfs -o size=64k none disk && head -c 60k /dev/zero > disk/full")
    assert (done.returncode, done.stderr) == (
        1,
        "prompts: disk: the stage's output disk/prompts.jsonl needs 1048576 bytes, got 4096 free. Free some space "
        "(LADDER_WORK moves it).\n",
    )


def test_a_read_only_disk_is_refused_before_the_work(folder):
    done = mounted(folder, "mount -t tmpfs -o ro none disk")
    assert (done.returncode, done.stderr) == (
        1,
        "prompts: disk/prompts.jsonl: cannot write in disk: the file system is read-only. Make it writable; nothing "
        "was done.\n",
    )


def test_a_work_folder_that_takes_nothing_is_refused_before_the_work(folder):
    (folder / "work").write_text("a file")
    done = stage(folder)
    assert done.returncode == 1 and "(the work folder; LADDER_WORK moves it): " in done.stderr
    assert "is a file; expected a folder" in done.stderr and not (folder / "disk").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission_is_refused_before_the_work(folder):
    (folder / "disk").mkdir(mode=0o555)
    assert "cannot write in disk: permission denied. Give this user permission" in stage(folder).stderr


def test_a_disk_that_fails_in_the_work_is_one_sentence(folder):
    done = stage(folder, "ulimit -f 16;")  # blocks of 512 bytes: the probe fits, the prompts do not
    assert (done.returncode, done.stderr) == (
        1,
        "prompts: disk/prompts.jsonl: the file would exceed the limit on file size. Raise the limit (ulimit -f), "
        f"{AGAIN}\n",
    )
    assert not list((folder / "disk").iterdir())
    assert stage(folder).returncode == 0


def test_a_full_device_is_one_sentence(tmp_path):
    with pytest.raises(UserError) as refusal, Faults([tmp_path / "a.json"]), Path("/dev/full").open("wb") as file:
        file.write(bytes(1 << 20))
    assert str(refusal.value).endswith(f": no space left on the device. Free some space, {AGAIN}")


def torch_error(path):
    import torch

    torch.save({"a": torch.zeros(1 << 16)}, path)


def safetensors_error(path):
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1 << 16)}, path)


def tokenizers_error(path):
    from perf.pico import pico_tokenizer

    pico_tokenizer().backend_tokenizer.save(str(path))


def arrow_error(path):
    from datasets import Dataset

    Dataset.from_dict({"a": ["x" * 1000] * 100}).save_to_disk(path)


def sqlite_error(path):
    with sqlite3.connect(path) as store:
        store.execute("CREATE TABLE a (b)")
        store.execute("INSERT INTO a VALUES (?)", ("x" * (1 << 16),))


LIMITED = """
import resource, sys
from pathlib import Path
import test_disk
from ladder.pipeline.stage import UserError
from ladder.pipeline.disk import Faults
import torch, safetensors, datasets
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for name in ("torch", "safetensors", "tokenizers", "arrow", "sqlite"):
    try:
        with Faults([]):
            getattr(test_disk, f"{name}_error")(Path(sys.argv[1]) / name)
    except UserError as refusal:
        print(name, "refused:", refusal)
"""


def test_a_library_that_cannot_write_is_one_sentence(tmp_path):
    """Each library raises its own error for a file that cannot be written."""
    paths = os.pathsep.join(map(str, [ROOT, ROOT / "tests", ROOT / "tests/ladder/pipeline"]))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    names = [line.split(" refused: ")[0] for line in done.stdout.splitlines()]
    assert names == ["torch", "safetensors", "tokenizers", "arrow", "sqlite"]
    assert all(line.endswith(AGAIN) for line in done.stdout.splitlines())


def test_what_no_disk_caused_keeps_its_traceback(tmp_path):
    for error in (ValueError("x"), OSError(errno.ECONNREFUSED, "x"), PermissionError(errno.EPERM, "x"), OSError("x")):
        assert fault(error) is None
        with pytest.raises(type(error)), Faults([tmp_path]):
            raise error
    assert fault(PermissionError(errno.EACCES, "x", "a/b")) == (errno.EACCES, "a/b")


def test_the_probe_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    check_writable([tmp_path / "models/sft/a", tmp_path / "metrics/a.json"])
    assert not list(tmp_path.iterdir())
