"""Resolve every extra as one set and write the hash-locked requirement files.

python -m supply.lock --uv .cache/uv/bin/uv [--upgrade]    # `make lock` installs uv and runs this

- `constraints.txt`     what `make setup` installs: the package without an extra
- `locks/cuda.txt`      the libraries that the CUDA build of torch needs (the CPU build needs none of them)
- `locks/EXTRA.txt`     what an extra adds to the two: `locks/dev.txt` what `make test` and `make lint` need

Every pin lists the SHA-256 of every file of that release on the package index. torch also lists the files of the
PyTorch CPU index, which uv does not see. Versions stay as they are where pyproject.toml allows it; `--upgrade` takes
the newest ones.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.utils import canonicalize_name

from ladder.pipeline.stage import UserError

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
"""Oldest Python of pyproject.toml. Newer ones resolve to the same set."""
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28")
TOOLS = "tools.txt"
"""Not resolved from pyproject.toml: what `make lock` itself runs."""
CUDA = re.compile(r"nvidia-.+|cuda-.+|triton")
PIN = re.compile(r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)")

CPU_TORCH = {
    "2.13.0": {
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_aarch64.whl": (
            "84453b69508ec79902f899c5ed9495acb9e2bbe9fda5f1d5d6f19e3c3842e1a7"
        ),
        "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl": (
            "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b"
        ),
    }
}
"""torch's version: {file of https://download.pytorch.org/whl/cpu/torch/: its SHA-256}, for Linux and Python 3.11."""

HEADER = """\
# Written by `make lock`; do not edit. {about}
# Python 3.11 to 3.13, Linux (x86_64, aarch64). Install with `pip install --require-hashes --no-deps`: see the Makefile.
"""
ABOUT = {
    "constraints": "The package; torch is the CPU build or the CUDA build, as the index gives it.",
    "cuda": "The libraries of the CUDA build of torch.",
}


def pins(text: str) -> dict[str, str]:
    """{canonical name: its pin with all of its hash lines} of a requirement file."""
    found: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        if match := PIN.match(line):
            name = canonicalize_name(match["name"])
            found[name] = [line]
        elif name and line.lstrip().startswith("--hash="):
            found[name].append(line)
        else:
            name = None
    return {name: "\n".join(lines) + "\n" for name, lines in found.items()}


def versions(text: str) -> dict[str, str]:
    """{canonical name: version} of a requirement file."""
    return {canonicalize_name(match["name"]): match["version"] for match in map(PIN.match, text.splitlines()) if match}


def locked(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """{requirement file: {name: version}}, constraints.txt first."""
    files = [root / "constraints.txt", *sorted((root / "locks").glob("*.txt"))]
    return {path.relative_to(root).as_posix(): versions(path.read_text(encoding="utf-8")) for path in files}


def with_cpu_files(pin: str) -> str:
    """torch's pin with the hashes of the CPU index. Errors: UserError for a version whose hashes are not recorded."""
    (version,) = versions(pin).values()
    if version not in CPU_TORCH:
        raise UserError(
            f"supply/lock.py: CPU_TORCH: no hashes of torch {version}; expected those of its CPU wheels. "
            "Copy them from https://download.pytorch.org/whl/cpu/torch/."
        )
    lines = pin.replace(" \\\n", "\n").splitlines()
    hashes = {*lines[1:], *(f"    --hash=sha256:{digest}" for digest in CPU_TORCH[version].values())}
    return " \\\n".join([lines[0], *sorted(hashes)]) + "\n"


def compiled(uv: Path, extras: Iterable[str], platform: str, known: str, *options: str) -> str:
    """What uv resolves for some extras; it prefers the pins of `known`. Errors: UserError with uv's last lines."""
    with tempfile.TemporaryDirectory() as scratch:
        output = Path(scratch) / "requirements.txt"
        output.write_text(known, encoding="utf-8")
        chosen = [part for extra in extras for part in ("--extra", extra)]
        where = ["--python-version", PYTHON, "--python-platform", platform, "--output-file", str(output)]
        style = ["--quiet", "--no-header", "--no-annotate", "--no-config"]
        command = [str(uv), "pip", "compile", str(ROOT / "pyproject.toml"), *chosen, *where, *style, *options]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode != 0:
            raise UserError(f"{' '.join(command[:4])}: {' '.join(ran.stderr.split())}")
        return output.read_text(encoding="utf-8")


def lock(uv: Path, upgrade: bool) -> dict[str, str]:
    """{requirement file: its text}."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = sorted(project["optional-dependencies"])
    files = [ROOT / "constraints.txt", *sorted((ROOT / "locks").glob("*.txt"))]
    known = "" if upgrade else "\n".join(path.read_text(encoding="utf-8") for path in files if path.exists())
    whole = pins(compiled(uv, extras, PLATFORMS[0], known, "--generate-hashes"))
    plain = "\n".join(pin.splitlines()[0].removesuffix(" \\") for pin in whole.values()) + "\n"
    if other := set(pins(compiled(uv, extras, PLATFORMS[1], plain)).items()) ^ set(pins(plain).items()):
        raise UserError(f"pyproject.toml: expected one set for {' and '.join(PLATFORMS)}, got other pins: {other}")
    whole["torch"] = with_cpu_files(whole["torch"])
    own = set(pins(compiled(uv, (), PLATFORMS[0], plain)))
    names = {extra: set(pins(compiled(uv, (extra,), PLATFORMS[0], plain))) for extra in extras}
    cuda = {name for name in own if CUDA.fullmatch(name)}
    sets = {"constraints": own - cuda, "cuda": cuda} | {extra: names[extra] - own for extra in extras}
    texts = {}
    for name, chosen in sets.items():
        if chosen:
            file = "constraints.txt" if name == "constraints" else f"locks/{name}.txt"
            about = ABOUT.get(name, f"What the extra {name} adds.")
            texts[file] = HEADER.format(about=about) + "".join(whole[package] for package in sorted(chosen))
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m supply.lock", description=__doc__.splitlines()[0])
    parser.add_argument("--uv", type=Path, required=True, help="the uv that resolves")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that pyproject.toml allows")
    options = parser.parse_args()
    try:
        texts = lock(options.uv, options.upgrade)
        for path in (ROOT / "locks").glob("*.txt"):
            if f"locks/{path.name}" not in texts and path.name != TOOLS:
                path.unlink()
        for file, text in texts.items():
            path = ROOT / file
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"{file}: {len(pins(text))} packages")
    except UserError as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
