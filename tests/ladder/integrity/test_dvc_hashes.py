from pathlib import Path

from dvc.repo import Repo

from conftest import write_files
from ladder.integrity.dvc_hashes import listing_md5, md5, output_md5
from ladder.pipeline.stage import read_yaml


def test_a_folder_has_dvcs_hash_whatever_its_names(tmp_path, monkeypatch):
    # As paths, a/x is before a+1 and a.py; as text, which DVC sorts, + - and . are before the slash.
    monkeypatch.chdir(tmp_path)
    names = ["a/x", "a+1/x", "a-b/x", "a.py", "a0"]
    write_files({f"made/{name}": name for name in names})
    Repo.init(no_scm=True).close()
    with Repo() as repo:
        repo.add("made")
    recorded = read_yaml(Path("made.dvc"))["outs"][0]["md5"]
    assert output_md5(Path("made")) == listing_md5({name: md5(Path("made", name)) for name in names}) == recorded
