"""supply/venv.sh: which Python `make setup` takes, and the line that names what to install."""

import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

FIX = (
    "Install one: `sudo apt-get install python3.11-venv` (Ubuntu 22.04), `sudo apt-get install python3-venv` (24.04), "
    "or `uv python install 3.12`.\n"
)
PYTHON = """\
#!/bin/sh
case "$*" in
  *python_version*) echo {version} ;;
  *version_info*) exit {old} ;;
  *ensurepip*) exit {bare} ;;
  "-m venv "*) echo {version} > "$3" ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Run the script with these Pythons alone on PATH: {name: (version, is it too old, is venv missing)}."""

    def made(pythons, **environment):
        folder = tmp_path / "bin"
        folder.mkdir()
        for name, (version, old, bare) in pythons.items():
            write(folder / name, PYTHON.format(version=version, old=int(old), bare=int(bare)))
        if "uv" in environment:
            write(folder / "uv", f"#!/bin/sh\necho {folder}/{environment.pop('uv')}\n")
        command = ["/bin/sh", str(ROOT / "supply/venv.sh"), str(tmp_path / "made")]
        done = subprocess.run(command, env={"PATH": str(folder), **environment}, capture_output=True, text=True)
        return done.returncode, done.stderr, (tmp_path / "made").read_text() if (tmp_path / "made").exists() else None

    return made


def write(path, text):
    path.write_text(text)
    path.chmod(0o755)


GOOD, OLD, BARE = ("3.12.3", False, False), ("3.10.12", True, False), ("3.12.3", False, True)


@pytest.mark.parametrize(
    ("pythons", "environment"),
    [
        ({"python3": GOOD}, {}),
        ({"python3": OLD, "python3.12": GOOD}, {}),
        ({"python3.11": ("3.11.9", False, True), "python3.13": GOOD}, {}),
        ({"python3.11": ("3.11.9", False, False), "mine": GOOD}, {"PYTHON": "mine"}),
        ({"python3": OLD, "managed": GOOD}, {"uv": "managed"}),
        ({"python3": GOOD}, {"PYTHON": ""}),  # as make exports it
    ],
)
def test_the_first_python_that_is_new_enough_is_taken(run, pythons, environment):
    assert run(pythons, **environment) == (0, "", "3.12.3\n")


@pytest.mark.parametrize(
    ("pythons", "environment", "got"),
    [
        ({"python3": OLD}, {}, "python3 (3.10.12)"),
        ({"python3": BARE}, {}, "python3 (3.12.3) without venv"),
        ({"python3.11": BARE, "python3": OLD}, {}, "python3.11 (3.12.3) without venv, python3 (3.10.12)"),
        ({}, {}, "none"),
        ({"python3": GOOD}, {"PYTHON": "python9"}, "none: python9 does not run"),
    ],
)
def test_without_one_a_line_names_what_is_there_and_what_to_install(run, pythons, environment, got):
    error = f"make setup: expected Python 3.11 or newer with its venv module, got {got}. {FIX}"
    assert run(pythons, **environment) == (1, error, None)


def test_make_names_no_version_of_python():
    assert "python3" not in Path(ROOT / "Makefile").read_text().replace("PYTHON=python3.12", "")
