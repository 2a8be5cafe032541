"""Static import graph of the repository's own modules, parsed without running them."""

import ast
from collections.abc import Iterable
from pathlib import Path

from ladder.pipeline.stage import UserError

Imports = dict[Path, set[Path]]
"""Map from each module to the modules that it imports directly."""


def read_imports(packages: Iterable[Path]) -> Imports:
    """Return the direct imports among the modules of these packages.

    For a module name computed at run time, as in `import_module(f"benchmarks.{name}")`, the package's folder is
    recorded instead of the module. Errors: UserError for a file that is not Python.
    """
    folders = {package.name: package for package in packages}
    return {module: set(_imports(module, folders)) for folder in folders.values() for module in folder.rglob("*.py")}


def imported(module: Path, imports: Imports) -> set[Path]:
    """Return the transitive imports of a module, including the module itself."""
    found: set[Path] = set()
    waiting = {module}
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= imports.get(path, set()) - found
    return found


def imports_of(module: Path, packages: Iterable[Path]) -> set[Path]:
    """Return the transitive imports of a module, including itself, and read no other module.

    Errors: UserError for a file that is not Python.
    """
    folders = {package.name: package for package in packages}
    found: set[Path] = set()
    waiting = {module}
    while waiting:
        path = waiting.pop()
        found.add(path)
        if path.is_file():
            waiting |= set(_imports(path, folders)) - found
    return found


def _imports(module: Path, folders: dict[str, Path]) -> Iterable[Path]:
    try:
        source = module.read_bytes()
        tree = ast.parse(source)
    except SyntaxError as error:
        raise UserError(f"{module}:{error.lineno}: not Python: {error.msg}") from None
    for node in _run(tree, expressions=b"import_module" in source):
        for package, *names in (name.split(".") for name in _names(node, module)):
            if package in folders and (file := folders[package].joinpath(*names).with_suffix(".py")).is_file():
                yield file
        if (package := _named_package(node)) in folders:
            yield folders[package]


def _run(tree: ast.AST, *, expressions: bool) -> Iterable[ast.AST]:
    """Iterate over all nodes except those under `if TYPE_CHECKING:`, which never run.

    expressions: whether to enter expressions, which hold no import statement but most of the nodes.
    """
    yield tree
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=others):
                for other in others:
                    yield from _run(other, expressions=expressions)
            case ast.expr() if not expressions:
                pass
            case _:
                yield from _run(node, expressions=expressions)


def _names(node: ast.AST, module: Path) -> list[str]:
    match node:
        case ast.Import():
            return [alias.name for alias in node.names]
        case ast.ImportFrom():
            above = [module.parts[-1 - node.level]] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            return [origin, *(f"{origin}.{alias.name}" for alias in node.names)]
    return []


def _named_package(node: ast.AST) -> str:
    """Return the package of `import_module(f"package.{name}")`; empty for any other node."""
    match node:
        case ast.Call(
            func=ast.Attribute(attr="import_module"), args=[ast.JoinedStr(values=[ast.Constant(str(prefix)), *_])]
        ):
            return prefix.removesuffix(".")
    return ""
