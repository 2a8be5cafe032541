"""The hash-locked requirement files, and what reads them."""

import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT
from ladder.pipeline.stage import UserError
from supply import lock

FILES = sorted(["constraints.txt", *(path.relative_to(ROOT).as_posix() for path in (ROOT / "locks").glob("*.txt"))])
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
TORCH = "torch==2.13.0 \\\n    --hash=sha256:" + 64 * "a" + "\n"


@pytest.mark.parametrize("file", FILES)
def test_every_line_is_a_comment_a_pin_or_a_hash(file):
    lines = (ROOT / file).read_text().splitlines()
    assert [line for line in lines if not (line.startswith("# ") or HASH.fullmatch(line) or lock.PIN.match(line))] == []
    for name, pin in lock.pins((ROOT / file).read_text()).items():
        assert pin.count("--hash=sha256:") >= 1, name
        assert pin.rstrip("\n").count("\n") == pin.count(" \\\n"), name  # each line but the last continues


def test_files_that_are_installed_together_have_one_version_of_a_package():
    pinned: dict[str, set[str]] = {}
    for file, versions in lock.locked().items():
        for name, version in versions.items() if file != "locks/tools.txt" else ():
            pinned.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}


def test_an_extra_adds_to_the_default_set_and_repeats_nothing():
    versions = lock.locked()
    base = versions["constraints.txt"].keys()
    for file in set(FILES) - {"constraints.txt", "locks/tools.txt"}:
        assert base & versions[file].keys() == set(), file


def test_every_requirement_of_the_project_is_locked_at_a_version_that_it_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = lock.locked()
    for extra, lines in {"": project["dependencies"], **project["optional-dependencies"]}.items():
        there = {**versions["constraints.txt"], **versions.get(f"locks/{extra}.txt", {})}
        for requirement in map(Requirement, lines):
            name = canonicalize_name(requirement.name)
            assert requirement.specifier.contains(there[name]), f"{extra}: {requirement}"


def test_torch_lists_the_files_of_the_cpu_index_and_of_pypi():
    pin = lock.pins((ROOT / "constraints.txt").read_text())["torch"]
    # PyPI's CUDA build for Python 3.11 on x86_64, then the CPU index's files for x86_64 and aarch64.
    for digest in (
        "49f1ea385c754e54919408a9bb3b5a72b0b755bbe2c916c1d6f70afbec4908a2",
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
        "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7",
    ):
        assert f"--hash=sha256:{digest}" in pin


def test_cpu_files_are_added_in_order_and_once():
    once = lock.with_cpu_files(TORCH)
    assert once == lock.with_cpu_files(once)
    assert once.splitlines() == [
        "torch==2.13.0 \\",
        "    --hash=sha256:6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b \\",
        "    --hash=sha256:84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7 \\",
        "    --hash=sha256:" + 64 * "a",
    ]


def test_a_torch_without_recorded_cpu_files_is_refused():
    with pytest.raises(UserError, match=r"CPU_TORCH: no hashes of torch 2\.99\.0; expected those of its CPU wheels"):
        lock.with_cpu_files(TORCH.replace("2.13.0", "2.99.0"))


def test_pins_reads_what_uv_and_pip_tools_write():
    text = "# comment\nA_b==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n    # via c\nd==2\n"
    assert lock.pins(text) == {
        "a-b": "A_b==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\n",
        "d": "d==2\n",
    }
    assert lock.versions(text) == {"a-b": "1.0", "d": "2"}


def test_setup_installs_nothing_unverified():
    """Each pip command of `make setup` requires hashes, installs the ladder itself, or installs nothing."""
    ran = subprocess.run(
        ["make", "--dry-run", "--always-make", "dev", "extra-pii", "lock"], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    commands = [command for line in ran.stdout.splitlines() for command in line.split("||") if "bin/pip" in command]
    installs = [command for command in commands if " install " in command]
    assert len(installs) == 8
    for command in installs:
        assert "--no-deps" in command, command
        assert "--require-hashes" in command or command.rstrip().endswith("--editable ."), command
        assert "--no-build-isolation" in command or re.search(r"setuptools|torch|cuda|tools", command), command
    others = [command for command in commands if command not in installs]
    assert all(" check" in command or " download --no-deps --only-binary :all: " in command for command in others)


@pytest.mark.parametrize("tampered", [False, True])
def test_a_file_with_other_bytes_is_not_installed(tmp_path, tampered):
    """`make setup`'s pip options on a wheel made here: the locked bytes install, one changed byte does not."""
    wheel = tmp_path / "wheels/ladder_tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("ladder_tiny/__init__.py", "")
        archive.writestr(
            "ladder_tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: ladder-tiny\nVersion: 1.0\n"
        )
        archive.writestr("ladder_tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("ladder_tiny-1.0.dist-info/RECORD", "")
    digest = subprocess.run(["sha256sum", str(wheel)], capture_output=True, text=True).stdout.split()[0]
    (tmp_path / "locked.txt").write_text(f"ladder-tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    if tampered:
        with zipfile.ZipFile(wheel, "a") as archive:
            archive.writestr("ladder_tiny/more.py", "")
    options = ["--quiet", "--require-hashes", "--no-deps", "--no-build-isolation", "--no-index"]
    where = ["--find-links", str(wheel.parent), "--target", str(tmp_path / "there"), "-r", str(tmp_path / "locked.txt")]
    ran = subprocess.run([sys.executable, "-m", "pip", "install", *options, *where], capture_output=True, text=True)
    assert (tmp_path / "there/ladder_tiny/__init__.py").exists() is not tampered
    assert (ran.returncode, "DO NOT MATCH THE HASHES" in ran.stderr) == ((1, True) if tampered else (0, False))


def test_uv_that_fails_is_one_sentence(tmp_path):
    uv = tmp_path / "uv"
    uv.write_text("#!/bin/sh\necho 'no solution' >&2\nexit 1\n")
    uv.chmod(0o755)
    with pytest.raises(UserError, match="pip compile .*pyproject.toml: no solution"):
        lock.compiled(uv, ["dev"], lock.PLATFORMS[0], "")
