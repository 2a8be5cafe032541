"""Run DVC's own commands in this process, with each YAML text parsed once.

DVC parses params.yaml once per stage and dvc.lock three times per command, with a parser in pure Python: 15 of the 19
seconds of a `dvc repro` that finds nothing to do. `parse_yaml` is a pure function of the text, so remembering its
results changes no result. Nothing else of DVC is replaced; `dvc repro` in a shell does the same, more slowly.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ladder.pipeline.yaml_cache import cached


@contextmanager
def yaml_parsed_once() -> Iterator[None]:
    """Let DVC take parsed YAML from ladder/pipeline/yaml_cache.py."""
    from dvc.utils import strictyaml
    from dvc.utils.serialize import _yaml

    original = _yaml.parse_yaml

    def parse_yaml(text: str, path: Any, typ: str = "safe") -> Any:
        if typ != "safe":  # "rt" keeps comments and positions, for files that DVC writes
            return original(text, path, typ)
        return cached(text, lambda text: original(text, path, typ)) or {}

    modules: tuple[Any, ...] = (_yaml, strictyaml)  # both hold the function by its name
    for module in modules:
        module.parse_yaml = parse_yaml
    try:
        yield
    finally:
        for module in modules:
            module.parse_yaml = original
