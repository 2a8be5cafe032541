import os
import sys
from importlib.util import find_spec

import pytest

from conftest import assistant, user
from ladder.data.jsonl import write_rows
from ladder.filters.executor import Cluster, Datatrove, shards, spread
from ladder.filters.passes import run_passes
from ladder.filters.steps import FilterContext, parse
from ladder.pipeline.stage import UserError, fit

STEPS = [{"length": {"min": 1, "max": 4}}, {"exact": None}, {"decontaminate": {"ngram": 3}}]
ANSWERS = ["one", "one two three four five", "One", "red green blue", "two", "four  words are kept", "", "two"]

needs_datatrove = pytest.mark.skipif(find_spec("datatrove") is None, reason="datatrove (extra: cluster) is not here")


@pytest.fixture
def rows_and_tasks(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    rows = [{"id": str(n), "prompt": user("Count."), "completion": assistant(text)} for n, text in enumerate(ANSWERS)]
    write_rows(tmp_path / "rows.jsonl", rows)
    write_rows(tmp_path / "task" / "quiz.jsonl", [{"prompt": "red green blue"}])
    return tmp_path / "rows.jsonl", FilterContext(
        tmp_path / "task", tmp_path / "base", tmp_path / "base", tmp_path / "prompts"
    )


def result(rows_and_tasks, folder, engine, steps=STEPS):
    data, given = rows_and_tasks
    done = run_passes(data, parse(steps), given, folder, shards(engine), spread(engine))
    rejected = {label: b"".join(path.read_bytes() for path in paths) for label, paths in done.rejected.items()}
    return b"".join(path.read_bytes() for path in done.kept), rejected, done.tally


def by_datatrove(tasks=3, **options):
    return Cluster(datatrove=Datatrove(tasks=tasks, workers=2, **options))


@needs_datatrove
def test_two_workers_give_the_bytes_of_one(rows_and_tasks, tmp_path):
    alone = result(rows_and_tasks, tmp_path / "alone", "local")
    assert alone == result(rows_and_tasks, tmp_path / "together", by_datatrove())
    assert alone[0].count(b"\n") == 3


SBATCH = """#!/bin/bash
script=${!#}
cat "$script" >> "$SEEN"
last=$(sed -n 's/#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
if grep -q launch_pickled_pipeline "$script"; then
    for task in $(seq 0 "$last"); do
        SLURM_ARRAY_TASK_ID=$task SLURM_NODELIST=localhost bash "$script" >&2 || exit 1
    done
fi
echo Submitted batch job 7
"""
SRUN = '#!/bin/bash\nshift 3; exec "$@"\n'


@needs_datatrove
def test_a_slurm_job_gives_the_same_and_is_waited_for(rows_and_tasks, tmp_path, monkeypatch):
    """sbatch and srun replace a cluster: they run the job's tasks as the script specifies, one after another."""
    launch = f'#!/bin/bash\nexec {sys.executable} -m datatrove.tools.launch_pickled_pipeline "$@"\n'
    programs = {"sbatch": SBATCH, "srun": SRUN, "scontrol": "#!/bin/bash\n", "launch_pickled_pipeline": launch}
    for name, script in programs.items():
        (tmp_path / "bin" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    engine = by_datatrove(tasks=2, slurm={"partition": "cpu", "time": "00:05:00"})
    alone = result(rows_and_tasks, tmp_path / "alone", "local", STEPS[::2])
    assert alone == result(rows_and_tasks, tmp_path / "slurm", engine, STEPS[::2])
    said = (tmp_path / "seen").read_text()
    assert "#SBATCH --array=0-1%2\n#SBATCH --wait\n" in said
    assert "#SBATCH --partition=cpu\n" in said

    (tmp_path / "bin" / "srun").write_text("#!/bin/bash\nexit 3\n")
    with pytest.raises(UserError, match="sbatch .* ended with 1; see .*datatrove/fails-00"):
        result(rows_and_tasks, tmp_path / "fails", engine)


@needs_datatrove
def test_a_row_that_is_none_is_named_by_a_worker_too(rows_and_tasks, tmp_path):
    data, given = rows_and_tasks
    data.write_text(data.read_text() + "{broken\n")
    with pytest.raises(UserError, match=r"rows.jsonl:9: not JSON"):
        result((data, given), tmp_path / "together", by_datatrove())


def test_what_a_cluster_takes():
    wanted = fit(Cluster, {"datatrove": {"tasks": 4, "workers": 2}}, "engine")
    assert (shards(wanted), shards("local")) == (4, 1)
    with pytest.raises(UserError, match="expected slurm or ray, got both"):
        fit(Cluster, {"datatrove": {"tasks": 4, "workers": 2, "slurm": {}, "ray": {}}}, "engine")


@pytest.mark.skipif(find_spec("datatrove") is not None, reason="datatrove is here")
def test_without_the_extra_the_sentence_names_it():
    with pytest.raises(UserError, match=r"datatrove is not installed. `make extra-cluster`"):
        spread(by_datatrove())
