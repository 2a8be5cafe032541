"""A small DVC repository, damaged: what `check` and `doctor` find, and what `doctor --fix` repairs."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo
from dvc_data.hashfile.hash import file_md5
from ruamel.yaml import YAML

from ladder.__main__ import main
from ladder.integrity.doctor import doctor
from ladder.integrity.dvc_hashes import all_md5, objects, output_md5, recorded_md5
from ladder.integrity.garbage_collection import collect
from ladder.integrity.lock_copy import COPY, keep_copy, read_copy
from ladder.integrity.lock_file import split
from ladder.integrity.lock_repair import DAMAGED, repair
from ladder.pipeline.check import lock_faults
from ladder.pipeline.stage import UserError

ROOT = Path(__file__).parents[3]
PIPELINE = """stages:
  made:
    foreach: ${made}
    do:
      cmd: mkdir -p out/${key} && echo ${item} ${key} > out/${key}/a && echo b > out/${key}/b &&
        echo ${item} > ${key}.txt
      params: ["made.${key}"]
      outs: ["out/${key}", "${key}.txt"]
"""


def environment():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def call(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True, env=environment()).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    before, root = Path.cwd(), tmp_path_factory.mktemp("template") / "repository"
    root.mkdir()
    os.chdir(root)
    try:
        for words in (["init", "-q"], ["config", "user.email", "a@b.c"], ["config", "user.name", "a"]):
            call("git", *words)
        call("dvc", "init", "-q")
        call("dvc", "config", "cache.type", "copy")
        Path("dvc.yaml").write_text(PIPELINE)
        Path("params.yaml").write_text("made: {one: 1, two: 2, three: 3}\n")
        call("dvc", "repro", "-q")
        call("git", "add", "-A")
        call("git", "commit", "-qm", "first")
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def repository(template, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(template, tmp_path / "repository"))
    return Path.cwd()


def lock():
    return Path("dvc.lock")


def reported(arguments, capsys):
    """Return (exit code, output of doctor)."""
    try:
        main(["doctor", *arguments])
        code = 0
    except SystemExit as ended:
        code = ended.code
    return code, capsys.readouterr().out


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    mode, before = path.stat().st_mode, path.stat()
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_entries_are_those_that_yaml_reads():
    text = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    assert split(text).text == text
    assert list(split(text).entries) == list(YAML(typ="safe", pure=True).load(text)["stages"])


def test_hashes_are_those_of_dvc(repository):
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
    recorded = YAML(typ="safe").load(lock())["stages"]
    for entry in recorded.values():
        for out in entry["outs"]:
            assert output_md5(Path(out["path"])) == out["md5"]
    found = all_md5(objects(cache))
    assert len(found) == 3 + 3 + 1 + 3  # folders, their two files (b is shared), the files
    assert found == {path: recorded_md5(path)[:32] for path in found}
    assert all(file_md5(str(path), Repo().fs) == md5 for path, md5 in found.items())


def test_a_file_cut_at_any_byte_is_reported_and_restored_byte_for_byte(repository):
    whole = lock().read_bytes()
    assert lock_faults() == []
    lengths = [0, *range(5, len(whole), 29), len(whole) - 1]
    for length in lengths:
        lock().write_bytes(whole[:length])
        (fault, *_) = lock_faults()
        assert fault.startswith("dvc.lock: ") and "`ladder doctor --fix` restores" in fault
        repair()
        assert lock().read_bytes() == whole
        assert lock_faults() == []
    assert DAMAGED.read_bytes() == whole[: lengths[-1]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "dvc.lock: empty; expected the entries of the stages that ran"),
        (b"\n \n", "dvc.lock: empty"),
        (b"\0" * 500, "dvc.lock: torn; expected UTF-8 text, got other bytes from byte 0 on"),
        (b"schema: '2.0'\nstages:\n  made@one:\n\xff\xfe", "got other bytes from byte 34 on"),
        (b"schema: '2.0'\nstages: [1, {\n", "dvc.lock: not YAML"),
        (b"- 1\n", "dvc.lock: torn; expected `schema` and `stages`, got '[1]'"),
        (b"stages: 7\n", "dvc.lock: torn; expected `schema` and `stages`"),
        (b"schema: '2.0'\nstages: {}\n", "dvc.lock: torn; 3 of 3 entries are missing (made@one, made@two, made@three)"),
    ],
)
def test_what_is_no_dvc_lock_is_one_sentence_and_restored(repository, content, expected, capsys):
    whole = lock().read_bytes()
    lock().write_bytes(content)
    (fault,) = lock_faults()
    assert expected in fault and "doctor --fix` restores" in fault
    assert reported(["--fix"], capsys)[0] == 0
    assert lock().read_bytes() == whole


def test_missing_entries_are_named_and_newer_ones_stay(repository):
    """`one` ran again with another value before the file was damaged: its entry is newer than git's."""
    Path("params.yaml").write_text("made: {one: 7, two: 2, three: 3}\n")
    call("dvc", "repro", "-q")
    newer = lock().read_text()
    lock().write_text(newer[: newer.index("  made@two:")])
    assert lock_faults() == [
        "dvc.lock: torn; 2 of 3 entries are missing (made@two, made@three); expected as in git's HEAD. "
        "`ladder doctor --fix` restores them"
    ]
    assert repair() == ["made@two: restored from git's HEAD", "made@three: restored from git's HEAD"]
    assert lock().read_text() == newer


def test_an_entry_whose_outputs_are_other_ones_now_is_not_restored(repository):
    text = lock().read_text()
    lock().write_text(text[: text.index("  made@three:")])
    shutil.rmtree(".dvc/cache")
    Path("three.txt").write_text("written by hand")
    assert repair() == ["made@three: not restored, because its outputs have changed. `dvc repro` makes it again."]
    assert lock().read_text() == text[: text.index("  made@three:")]


def test_entries_that_only_the_copy_has_are_restored(repository):
    """A run that was not committed: git does not have its entry."""
    Path("params.yaml").write_text("made: {one: 1, two: 2, three: 3, four: 4}\n")
    call("dvc", "repro", "-q")
    whole = lock().read_bytes()
    os.utime(lock(), (time.time() - 5, time.time() - 5))
    keep_copy()
    lock().write_bytes(whole[: whole.index(b"  made@two:")])
    keep_copy()  # a stage that starts now does not overwrite the copy with the damaged file
    (fault,) = lock_faults()
    assert "3 of 4 entries are missing (made@two, made@three, made@four)" in fault
    assert f"made@four: restored from {COPY}" in repair()
    assert lock().read_bytes() == whole


def test_a_torn_copy_is_not_used(repository):
    os.utime(lock(), (time.time() - 5, time.time() - 5))
    keep_copy()
    content = COPY.read_text()
    assert list(read_copy().entries) == ["made@one", "made@two", "made@three"]
    COPY.write_text(content[: content.index("  made@three:")])
    assert read_copy().entries == {}


def test_the_end_of_a_file_that_may_be_half_written_is_not_copied(repository):
    lock().touch()
    keep_copy()
    assert list(read_copy().entries) == ["made@one", "made@two"]


def test_an_entry_of_another_line_of_history_is_not_missed(repository):
    call("git", "switch", "-qc", "other")
    Path("params.yaml").write_text("made: {one: 1, two: 2, three: 3, four: 4}\n")
    call("dvc", "repro", "-q")
    call("git", "commit", "-qam", "four")
    os.utime(lock(), (time.time() - 5, time.time() - 5))
    keep_copy()
    call("git", "switch", "-q", "-")
    Path("params.yaml").write_text("made: {one: 1, two: 2, three: 3, four: 4}\n")
    assert lock_faults() == []


def test_a_dvc_lock_that_was_removed_on_purpose_is_not_missed(repository):
    lock().unlink()
    assert lock_faults() == []
    keep_copy()
    call("dvc", "repro", "-q", "made@one")
    assert lock_faults() == []


def test_of_a_merge_conflict_the_side_whose_outputs_are_here_counts(repository):
    ours = lock().read_text()
    call("git", "switch", "-qc", "other")
    Path("params.yaml").write_text("made: {one: 8, two: 2, three: 3}\n")
    call("dvc", "repro", "-q")
    theirs = lock().read_text()
    call("git", "commit", "-qam", "other")
    call("git", "switch", "-q", "-")
    Path("params.yaml").write_text("made: {one: 9, two: 2, three: 3}\n")
    call("dvc", "repro", "-q")
    ours = lock().read_text()
    call("git", "commit", "-qam", "ours")
    subprocess.run(["git", "merge", "-q", "other"], check=False, capture_output=True)
    assert "<<<<<<<" in lock().read_text()
    (fault,) = lock_faults()
    assert ": merge conflict; expected entries, got <<<<<<<. " in fault
    with pytest.raises(UserError, match=r"unable to read: 'params\.yaml'"):
        repair()  # params.yaml has the same conflict, which the user resolves
    Path("params.yaml").write_text("made: {one: 9, two: 2, three: 3}\n")
    assert repair() == ["made@one: restored from side 1 of the conflict"]
    assert lock().read_text() == ours
    assert ours != theirs


def test_corrupt_objects_are_named_with_their_outputs_removed_and_made_again(repository, capsys):
    assert reported([], capsys) == (0, "examined 0 rungs, 10 cache objects: 0 problems\n")
    call("dvc", "config", "cache.type", "hardlink")
    shutil.rmtree("out")
    call("dvc", "checkout", "--relink", "-q")
    path = Path("out/two/a")
    assert path.stat().st_nlink == 2
    before = path.read_bytes()
    flip(path)
    assert "up to date" in call("dvc", "status")  # DVC trusts a read-only object
    code, text = reported([], capsys)
    assert code == 1
    assert "corrupt; expected md5" in text and "It belongs to out/two/a of stage made@two. `--fix` removes it" in text
    code, text = reported(["--json"], capsys)
    assert [finding["subject"] for finding in json.loads(text)["findings"]] == ["cache"]
    assert reported(["--fix"], capsys)[0] == 0
    assert not path.exists()
    call("dvc", "repro", "-q")
    assert path.read_bytes() == before
    assert reported([], capsys) == (0, "examined 0 rungs, 10 cache objects: 0 problems\n")


def test_a_corrupt_object_is_replaced_where_the_workspace_has_the_right_bytes(repository, capsys):
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
    wanted = {path: path.read_bytes() for path in objects(cache)}
    for path in wanted:
        if path.suffix != ".dir":
            flip(path)
    assert reported([], capsys)[0] == 1
    code, text = reported(["--fix"], capsys)
    assert (code, text.count("replaced by the content of")) == (0, 7)
    assert {path: path.read_bytes() for path in objects(cache)} == wanted
    assert all(path.stat().st_mode & 0o777 == 0o444 for path in objects(cache))


def test_remotes_without_verify_are_named_and_set(repository, capsys):
    call("dvc", "remote", "add", "store", str(repository / "store"))
    code, text = reported([], capsys)
    assert code == 1 and "remote store: verify is not set; expected true" in text
    assert reported(["--fix"], capsys)[0] == 0
    assert call("dvc", "config", "remote.store.verify").strip().lower() == "true"
    assert reported([], capsys)[0] == 0


def test_a_corrupt_download_is_refused_by_a_verified_remote_and_a_second_push_and_pull_complete(repository, capsys):
    call("dvc", "remote", "add", "-d", "store", str(repository / "store"))
    reported(["--fix"], capsys)
    call("dvc", "push", "-q")
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("out")
    damaged = next(path for path in objects(Path("store/files/md5")) if path.read_bytes() == b"2 two\n")
    flip(damaged)
    with pytest.raises(subprocess.CalledProcessError):
        call("dvc", "pull", "-q")
    assert not Path("out/two/a").exists()
    damaged.chmod(0o644)
    damaged.write_bytes(b"2 two\n")
    call("dvc", "pull", "-q")
    assert Path("out/two/a").read_bytes() == b"2 two\n"
    assert reported([], capsys)[0] == 0


def test_what_killed_processes_left_is_named_and_removed(repository, capsys):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [Path(f"models/sft/.chat.{ended.pid}-ab12cd34.part/model.safetensors"), Path(f"data/.x.jsonl.{ended.pid}"),
            Path("data/filter/.chat.jsonl.part"), Path("models/.base.abcd1234/x")]  # fmt: skip
    alive = [Path(f"models/sft/.chat.{os.getpid()}-ab12cd34.part/x"), Path("data/.young.jsonl.part")]
    for path in [*left, *alive]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    old = time.time() - 7200
    for path in [*left, left[3].parent]:
        os.utime(path, (old, old))
    code, text = reported([], capsys)
    assert (code, text.count("half-written by a process that has ended")) == (1, 4)
    assert reported(["--fix"], capsys)[0] == 0
    assert [path.exists() for path in [*left, *alive]] == [False] * 4 + [True] * 2


def test_nothing_is_repaired_or_collected_while_dvc_runs(repository, monkeypatch):
    Path(".dvc/tmp/rwlock").write_text(json.dumps({"write": {"out": {"pid": os.getpid(), "cmd": "dvc repro"}}}))
    for command in (lambda: doctor(fix=True), lambda: collect(yes=True)):
        with pytest.raises(UserError, match=f"process {os.getpid()} runs `dvc repro` in this repository. Wait for it"):
            command()


def test_collecting_keeps_what_commits_and_experiments_need(repository):
    """A bare `dvc gc --workspace` would remove both."""
    call("dvc", "exp", "run", "-q", "-n", "tried", "-S", "made.one=5")
    call("git", "checkout", "-q", "dvc.lock", "params.yaml")
    Path("params.yaml").write_text("made: {one: 6, two: 2, three: 3}\n")
    call("dvc", "repro", "-q")
    call("git", "commit", "-qam", "six")
    Path("stray").write_text("of no commit")
    call("dvc", "add", "-q", "stray")
    Path("stray").unlink()
    Path("stray.dvc").unlink()
    with Repo() as repo:
        cache = Path(repo.cache.local.path)
    before = set(objects(cache))
    assert collect() == (1, len("of no commit"), False)
    collect(yes=True)
    gone = before - set(objects(cache))
    assert len(gone) == 1  # `stray`
    call("dvc", "exp", "apply", "tried")
    assert Path("one.txt").read_text() == "5\n"


def test_a_queued_experiment_whose_worker_was_killed_is_named_and_marked_failed(repository, capsys):
    """DVC reports it as Running forever."""
    Path("dvc.yaml").write_text(PIPELINE.replace("cmd: mkdir", "cmd: sleep ${item} && mkdir"))
    call("git", "commit", "-qam", "slow")
    call("dvc", "exp", "run", "-q", "--queue", "-n", "slow", "-S", "made.one=300")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # a worker would keep pipes open
    subprocess.run(
        [Path(sys.executable).parent / "dvc", "queue", "start", "-q"], check=True, env=environment(), **quiet
    )
    folder, limit = Path(".dvc/tmp/exps"), time.monotonic() + 60
    while not (started := list(folder.glob("run/*/*.json"))) or not list(folder.glob("celery/dvc-exp-worker-1.json")):
        assert time.monotonic() < limit
        select.select([], [], [], 0.1)
    for record in (folder / "celery/dvc-exp-worker-1.json", started[0]):
        process = psutil.Process(json.loads(record.read_text())["pid"])
        for one in [process, *process.children(recursive=True)]:
            one.kill()
        process.wait(30)
    assert "Running" in call("dvc", "queue", "status")
    code, text = reported([], capsys)
    assert code == 1 and "experiment slow: marked Running, but its worker has ended" in text
    assert reported(["--fix"], capsys)[0] == 0
    assert "Failed" in call("dvc", "queue", "status") and not list(folder.glob("tmp*"))
    assert reported([], capsys)[0] == 0
