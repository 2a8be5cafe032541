"""Detect and repair corrupt files: rungs against the SHA-256 in rung.json, DVC cache objects against their names.

DVC trusts a read-only object without hashing it, so it would restore and upload a corrupted object. A repair only
removes files whose content does not match their name or rung.json. These files cannot be used, and while they exist DVC
neither downloads nor regenerates them.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ladder.data.jsonl import read_json
from ladder.integrity.dvc_hashes import all_md5, folder_files, md5, objects, recorded_md5
from ladder.integrity.findings import Finding
from ladder.integrity.lock_file import LOCK
from ladder.models.file_hashes import all_sha256
from ladder.models.rung import FILES_RECORD, File, file_faults, read_description
from ladder.pipeline.stage import UserError, read_yaml

Owners = dict[str, list[tuple[str, Path]]]
"""(stage, path in the workspace) per hash that dvc.lock records for a file of an output."""


def rung_findings(models: Path = Path("models")) -> Iterator[Finding]:
    """Findings for all files of rungs in the workspace that do not match rung.json. Cached hashes are not used."""
    for record in sorted([*models.rglob("rung.json"), *models.rglob(FILES_RECORD)]):
        if any(part.startswith(".") for part in record.parts):
            continue  # incomplete output: see ladder/integrity/leftovers.py
        directory = record.parent
        try:
            files = _recorded(record)
        except UserError as refusal:
            yield Finding("rung", str(refusal))
            continue
        corrupt = set(_corrupt(directory, files))
        for sentence in file_faults(directory, files, record.name, remember=False):
            path = next((path for path in corrupt if sentence.startswith(f"{path}:")), None)
            yield Finding("rung", sentence, partial(_remove, [path], f"`dvc checkout {directory}`") if path else None)


def _recorded(record: Path) -> dict[str, File]:
    if record.name == "rung.json":
        return read_description(record.parent).files
    try:
        return TypeAdapter(dict[str, File]).validate_python(read_json(record))
    except ValidationError:
        raise UserError(f"{record}: not a list of files. `dvc repro` makes it again.") from None


def _corrupt(directory: Path, files: dict[str, File]) -> Iterator[Path]:
    """Existing files whose SHA-256 differs from the recorded one."""
    there = [directory / name for name in files if (directory / name).is_file()]
    for path, found in all_sha256(there, remember=False).items():
        if found != files[path.relative_to(directory).as_posix()].sha256:
            yield path


def cache_findings(cache: Path) -> Iterator[Finding]:
    """Findings for every DVC cache object whose MD5 differs from its name, with the outputs that contain it."""
    wrong = {path: found for path, found in all_md5(objects(cache)).items() if found != recorded_md5(path)[:32]}
    if not wrong:
        return
    owners = recorded_files(cache)
    for path, found in wrong.items():
        name = recorded_md5(path)
        owned = owners.get(name, [])
        outputs = ", ".join(f"{file} of stage {stage}" for stage, file in owned) or "no output of the current dvc.lock"
        again = " ".join(["dvc repro", *dict.fromkeys(stage for stage, _ in owned)])
        yield Finding(
            "cache",
            f"{path}: corrupt; expected md5 {name[:32]}, got {found}. It belongs to {outputs}. `--fix` removes it (its "
            f"content is wrong anyway); then `dvc pull` gets it from a remote, or `{again}` makes it again.",
            partial(mend_object, path, [file for _, file in owned]),
        )


def recorded_files(cache: Path) -> Owners:
    """Files of all outputs recorded in dvc.lock, by hash. For a directory this includes its `.dir` object."""
    owners: Owners = defaultdict(list)
    try:
        stages = (read_yaml(LOCK) or {}).get("stages") or {} if LOCK.exists() else {}
    except (UserError, AttributeError):
        return owners  # reported as a problem of dvc.lock
    for name, entry in stages.items():
        for out in entry.get("outs") or [] if isinstance(entry, dict) else []:
            found, path = str(out.get("md5")), Path(str(out.get("path")))
            owners[found].append((name, path))
            for relative, hashed in folder_files(cache, found).items() if found.endswith(".dir") else ():
                owners[hashed].append((name, path / relative))
    return owners


def mend_object(path: Path, files: list[Path]) -> str:
    """Replace a corrupt object by a workspace file with the right content, or remove it if there is none.

    Workspace files that are hard links or symlinks to the object have the same wrong content. They are removed too,
    because DVC would consider them unchanged. Returns a description of what was done.
    """
    expected = recorded_md5(path)
    linked = [file for file in files if file.exists() and file.samefile(path)]
    whole = [file for file in files if file.is_file() and file not in linked and md5(file) == expected]
    if whole:
        temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
        shutil.copyfile(whole[0], temporary)
        temporary.chmod(0o444)
        os.replace(temporary, path)
        for file in linked:
            file.unlink()
        return f"{path}: replaced by the content of {whole[0]}"
    _remove([*linked, path], "")
    return " and ".join(f"{file}: removed" for file in [path, *linked])


def _remove(paths: list[Path], restore: str) -> str:
    for path in paths:
        path.unlink(missing_ok=True)
    return f"{', '.join(map(str, paths))}: removed" + (f"; {restore} restores it" if restore else "")
