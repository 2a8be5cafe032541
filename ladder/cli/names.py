"""Names that a shell completes: benchmarks, stages, rungs, recipes. Read from files, without imports."""

from pathlib import Path
from typing import Any


def benchmark_names(incomplete: str = "") -> list[str]:
    """Return the names of modules in benchmarks/."""
    names = sorted(path.stem for path in Path("benchmarks").glob("[!_]*.py"))
    return [name for name in names if name.startswith(incomplete)]


def recipe_names(incomplete: str = "") -> list[str]:
    """Return the names of files in recipes/, without their ending: changes of params.yaml, and projects."""
    names = sorted(path.stem for folder in ("recipes", "recipes/projects") for path in Path(folder).glob("*.yaml"))
    return [name for name in names if name.startswith(incomplete)]


def project_names(incomplete: str = "") -> list[str]:
    """Return the names of files in recipes/projects/, without their ending."""
    names = sorted(path.stem for path in Path("recipes/projects").glob("*.yaml"))
    return [name for name in names if name.startswith(incomplete)]


def rung_names(incomplete: str = "") -> list[str]:
    """Return the names of the rungs in models/, such as sft/words."""
    models = Path("models")
    names = sorted(record.parent.relative_to(models).as_posix() for record in models.rglob("rung.json"))
    return [name for name in names if name.startswith(incomplete)]


def stage_names(incomplete: str = "") -> list[str]:
    """Return the stages of dvc.yaml, and the entries of those over a section of params.yaml, such as sft@words."""
    from ladder.pipeline.dvc_file import read_pipeline
    from ladder.pipeline.errors import UserError
    from ladder.pipeline.seeds import with_replicas
    from ladder.pipeline.stage import read_params

    try:
        stanzas: dict[str, Any] = read_pipeline()
        params = with_replicas(read_params())
    except (UserError, KeyError, TypeError):
        return []
    names = []
    for stage, stanza in stanzas.items():
        section = params.get(stage)
        entries = section if stanza.get("foreach") == f"${{{stage}}}" and isinstance(section, dict) else {}
        names += [stage, *(f"{stage}@{entry}" for entry in entries)]
    return [name for name in names if name.startswith(incomplete)]
