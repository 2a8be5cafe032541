"""A training on two nodes: two torchrun agents on this machine, each in its own checkout, with shared inputs and
LADDER_WORK. When a node dies the stage fails; run again, it ends with the result of one process."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from ruamel.yaml import YAML
from safetensors.torch import load_file

from conftest import ROOT, assistant, unfinished, user
from ladder.data.jsonl import write_rows
from stages import sft

SECTION = {
    "parent": "base",
    "data": "filter/chat",
    "lora": None,
    "trainer": {
        "max_steps": 4,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "learning_rate": 1e-3,
        "bf16": False,
    },
}
OUTPUTS = ["models/sft/chat", "data/chat.masks.txt", "metrics/chat.json", "plots/chat.tsv"]

SRUN = """
# In the place of srun -K: starts the agent of each node, and one that fails ends the other. Ranks go by address.
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
trap exit TERM
for node in 0 1; do
    cd ../$node
    [ -e dying.py ] && shift 2 && set -- dying.py "$@"
    {python} -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --local-addr 127.0.0.$((node + 1)) \\
        --rdzv-id ladder --rdzv-backend c10d --rdzv-endpoint localhost:{port} "$@" &
done
wait -n && wait -n
"""

DYING = """
import os, runpy, signal
import ladder.training.train

class Dying(ladder.training.train.Bar):
    def on_step_end(self, args, state, control, **rest):
        if state.global_step == 2:
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()

ladder.training.train.Bar = Dying
runpy.run_module("stages.sft", run_name="__main__", alter_sys=True)
"""


@pytest.fixture
def start(tmp_path, base):
    """Run the stage on node 0 as DVC does, launched on both nodes: its exit code and its output."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    for node in (0, 1):
        (tmp_path / f"{node}").mkdir()
        for name in ("ladder", "stages"):
            (tmp_path / f"{node}/{name}").symlink_to(ROOT / name)
        YAML().dump({"sft": {"chat": SECTION}}, tmp_path / f"{node}/params.yaml")
    (tmp_path / "srun.sh").write_text(SRUN.replace("{python}", sys.executable).replace("{port}", str(port)))
    paths = [base, base, tmp_path / "rows.jsonl", *OUTPUTS]

    def begin():
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LADDER_")}
        done = subprocess.run(
            [sys.executable, "-m", "stages.sft", "chat", *map(str, paths)],
            cwd=tmp_path / "0",
            env={
                **clean,
                "PYTHONPATH": ".",
                "OMP_NUM_THREADS": "1",
                "LADDER_LAUNCH": f"bash {tmp_path / 'srun.sh'}",
                "LADDER_WORK": str(tmp_path / "work"),
                "LADDER_SAVE_SECONDS": "0",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return done.returncode, done.stdout

    return begin


def curve(path):
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(header, map(float, line), strict=True)) for line in lines]


def test_two_nodes_learn_what_one_process_does_and_outlive_a_death(tmp_path, base, start, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    rows = [{"prompt": user(f"Say {n}."), "completion": assistant("x" * (1 + 7 * n % 20))} for n in range(16)]
    write_rows(tmp_path / "rows.jsonl", rows)
    alone = [tmp_path / "alone" / name for name in OUTPUTS]
    sft.main(sft.Params(**SECTION), base, base, tmp_path / "rows.jsonl", *alone)

    (tmp_path / "1/dying.py").write_text(DYING)
    code, said = start()
    assert code != 0, said
    assert not (tmp_path / "0/models").exists() and not (tmp_path / "0/metrics").exists()

    (tmp_path / "1/dying.py").unlink()
    code, said = start()
    assert code == 0, said
    assert "resuming at step 1 of 4" in said
    assert not unfinished(tmp_path / "work")

    one, two = curve(alone[3]), curve(tmp_path / "0" / OUTPUTS[3])
    assert len(one) == len(two) == 4
    for name in ("loss", "grad_norm", "learning_rate", "num_tokens"):
        assert [point[name] for point in two] == pytest.approx([point[name] for point in one], rel=1e-4), name
    folders = tmp_path / "alone", tmp_path / "0"
    before, after = (load_file(folder / OUTPUTS[0] / "model.safetensors") for folder in folders)
    assert all(torch.allclose(before[name].float(), after[name].float(), atol=1e-3) for name in before)
    assert {path.name for path in (tmp_path / "1").iterdir()} == {"ladder", "stages", "params.yaml"}
