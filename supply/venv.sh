#!/bin/sh
# Create a virtual environment with the first Python on PATH that is new enough: sh supply/venv.sh FOLDER
# PYTHON in the environment names the Python to take instead. Without one, the last line of stderr says what to install.
set -eu
need='Python 3.11 or newer with its venv module'
fix='Install one: `sudo apt-get install python3.11-venv` (Ubuntu 22.04), `sudo apt-get install python3-venv` (24.04), or `uv python install 3.12`.'
found=
for name in ${PYTHON:-python3.11 python3.12 python3.13 python3 $(uv python find '>=3.11' 2>/dev/null || true)}; do
    version=$("$name" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue
    if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        "$name" -c 'import ensurepip, venv' 2>/dev/null && exec "$name" -m venv "$1"
        found="${found:+$found, }$name ($version) without venv"
    else
        found="${found:+$found, }$name ($version)"
    fi
done
echo "make setup: expected $need, got ${found:-none${PYTHON:+: $PYTHON does not run}}. $fix" >&2
exit 1
