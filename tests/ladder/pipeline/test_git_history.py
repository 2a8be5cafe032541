"""Revisions by their names, against git's own answers."""

import subprocess
from pathlib import Path

import pytest

from ladder.pipeline.errors import UserError
from ladder.pipeline.git_history import commits, experiments, object_ids, resolve, tags, text_at


def git(*words):
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def history(tmp_path, monkeypatch):
    """Three commits of a file, an annotated tag, a tag of a blob, and two experiments of one name."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    git("config", "user.email", "user@example.org")
    git("config", "user.name", "user")
    for text in ("one", "two\twith a tab", "three"):
        Path("file.txt").write_text(text)
        git("add", "-A")
        git("commit", "-qm", text)
    git("tag", "-a", "v1", "-m", "a tag", "HEAD~1")
    git("tag", "blob", "HEAD:file.txt")
    for start in ("HEAD~1", "HEAD"):
        commit = git("rev-parse", start)
        git("update-ref", f"refs/exps/{commit[:2]}/{commit[2:]}/try", commit)
    git("update-ref", "refs/exps/stash", "HEAD")


def test_names_are_those_of_git(history):
    assert [point.commit for point in commits(["file.txt"])] == git("log", "--format=%H").splitlines()
    assert commits(["file.txt"])[1].subject == "two\twith a tab"
    [tag] = tags()
    assert (tag.label, tag.commit) == ("v1", git("rev-parse", "v1^{commit}"))
    assert (tag.date, str(tag.seconds)) == tuple(git("log", "-1", "--format=%cs %ct", "v1").split())
    assert resolve("HEAD~2").commit == git("rev-parse", "HEAD~2")
    assert resolve("workspace").commit is None


def test_experiments_of_one_name_have_the_commit_in_their_labels(history):
    starts = {git("rev-parse", start)[:7] for start in ("HEAD~1", "HEAD")}
    assert {point.label for point in experiments()} == {f"try ({start})" for start in starts}
    with pytest.raises(UserError, match="try: 2 experiments have this name; expected one"):
        resolve("try")
    with pytest.raises(UserError, match=r"v11: no such revision \(did you mean 'v1'\?\)"):
        resolve("v11")
    with pytest.raises(UserError, match="--all: no such revision"):
        resolve("--all")


def test_texts_at_a_revision(history):
    assert text_at(resolve("v1"), "file.txt") == git("show", "v1:file.txt")
    assert text_at(resolve("v1"), "other.txt") is None
    assert object_ids(["HEAD:./file.txt", "HEAD:./none"]) == [git("rev-parse", "HEAD:file.txt"), None]
