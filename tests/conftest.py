"""Fixtures and rows of all tests. Pico models are made here: no test needs a hub.

Every test module imports this one, so it imports no torch: a test of plain functions starts in a second, not in twelve.
Helpers that need torch are in torch_helpers.py and perf/pico.py.
"""

import json
import multiprocessing
import multiprocessing.context
import os
import tempfile
from collections.abc import Iterator

os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="false")
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio-")  # trackio reads it once, at its first import
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # two processes of two threads on two cores stall each other
    os.environ["LADDER_WORK"] = tempfile.mkdtemp(prefix="ladder-")
else:
    os.environ.setdefault("LADDER_WORK", tempfile.mkdtemp(prefix="ladder-"))

from pathlib import Path

import pytest

from ladder.data.jsonl import Row, read_rows, write_rows
from ladder.models.rung import describe_file
from ladder.pipeline.stage import UserError, fit, read_params

ROOT = Path(__file__).parents[1]
SLOW = Path(__file__).parent / "slow.txt"


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> multiprocessing.context.ForkServerContext:
    """Start processes of a test module, forked from one that has imported the module."""
    os.environ["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, ROOT / "tests", request.path.parent]))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([request.path.stem])
    return context


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """models/base of a pico ladder."""
    from torch_helpers import save_base

    return save_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def pico_rungs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the rungs base, sft/words and sft/rounded (QLoRA) in models/, on a float32 base."""
    from shipped import save_repository

    return save_repository(tmp_path_factory.mktemp("rungs"))


@pytest.fixture(scope="session")
def stage_programs() -> Iterator[Path]:
    """Folder with a `python` and a `dvc` that start in a fork of a process with torch: see stage_server.py."""
    from stage_server import stage_server

    with stage_server() as programs:
        yield programs


@pytest.fixture
def repository(pico_rungs: Path, work: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the folder of `pico_rungs`."""
    monkeypatch.chdir(pico_rungs)
    return pico_rungs


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for LADDER_WORK: caches and checkpoints of unfinished trainings."""
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    return tmp_path / "work"


@pytest.fixture(scope="module")
def boxed() -> None:
    """Skip the module where no sandbox can be created; in CI, that is a fault."""
    from ladder.verifiers import sandbox

    try:
        sandbox.isolation()
    except UserError as refused:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(refused))


def record_files(directory: Path) -> None:
    """Update rung.json to describe the current files, for faults that hashes alone do not reveal."""
    record = json.loads((directory / "rung.json").read_text())
    files = [path for path in sorted(directory.iterdir()) if path.name != "rung.json"]
    record["files"] = {path.name: describe_file(path).model_dump() for path in files}
    (directory / "rung.json").write_text(json.dumps(record))


def unfinished(work: Path) -> list[Path]:
    """Return the files in LADDER_WORK except the records of verified hashes: checkpoints of unfinished trainings."""
    return [path for path in work.iterdir() if path.name != "hashes"]


def write_files(texts: dict[str, str]) -> None:
    """Files of these texts under the working directory, by path."""
    for name, text in texts.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)


def user(text: str) -> list[Row]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


@pytest.fixture
def rows() -> list[Row]:
    """Twelve rows of prompt and completion."""
    return [{"prompt": user(f"Say {n}."), "completion": assistant(f"It is {n}{n}.")} for n in range(12)]


PAIRS: list[Row] = [
    {"id": str(n), "prompt": user(f"Say {n}."), "chosen": assistant(f"{n}!"), "rejected": assistant(f"{n} or so")}
    for n in range(4)
]


def referenced_pairs(folder: Path, base: Path) -> list[Row]:
    """PAIRS with the base's log-probabilities, as the stage reference_logprobs writes them."""
    from stages import reference_logprobs

    write_rows(folder / "pairs.jsonl", PAIRS)
    params = reference_logprobs.Params(model="base", data="preferences/chat")
    reference_logprobs.main(params, folder / "pairs.jsonl", base, base, folder / "reference.jsonl")
    return read_rows(folder / "reference.jsonl")


@pytest.fixture
def referenced(tmp_path: Path, base: Path) -> list[Row]:
    return referenced_pairs(tmp_path, base)


@pytest.fixture(scope="session")
def ifeval_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """IFEval's rows and NLTK's sentence model, made by their own stages as params.yaml says."""
    from stages import punkt, task  # with the hub's client: half a second

    params, folder = read_params(ROOT / "params.yaml"), tmp_path_factory.mktemp("data")
    task.write_task(fit(task.Entry, params["task"]["ifeval"], "task.ifeval"), folder / "ifeval.jsonl")
    punkt.main(fit(punkt.Params, params["punkt"], "punkt"), folder / "punkt")
    return folder / "ifeval.jsonl", folder / "punkt"


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest file first: with several processes, it must not be the last to end. Mark slow tests: those that
    tests/slow.txt lists, by file or by function, and those of real weights."""
    slow = {line for line in SLOW.read_text().splitlines() if not line.startswith("#")}
    for item in items:
        path, _, name = item.nodeid.partition("::")
        if {path, f"{path}::{name.partition('[')[0]}"} & slow or item.get_closest_marker("real"):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: item.path.name not in ("test_repro.py", "test_kills.py"))
