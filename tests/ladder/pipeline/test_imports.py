import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_files
from ladder.pipeline.imports import imported, read_imports
from ladder.pipeline.stage import UserError

ROOT = Path(__file__).parents[3]
SOURCES = {
    "ours/__init__.py": "",
    "ours/one.py": "import json\nimport ours.two\n\ndef later():\n    from ours import three\n",
    "ours/two.py": "from .four import name\nfrom json import loads\n",
    "ours/three.py": "if TYPE_CHECKING:\n    import ours.five\nelse:\n    import ours.two\n",
    "ours/four.py": "import importlib\nname = 'a'\nimportlib.import_module(f'plugins.{name}')\n",
    "ours/five.py": "from . import one\nimport plugins.a\n",
    "plugins/a.py": "import ours.six\n",
    "others/six.py": "import ours.one\n",
}


@pytest.fixture
def imports(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_files(SOURCES)
    return read_imports([Path("ours"), Path("plugins")])


def test_what_a_module_imports_itself_as_it_runs(imports):
    assert {str(module): sorted(map(str, found)) for module, found in imports.items()} == {
        "ours/__init__.py": [],
        "ours/one.py": ["ours/three.py", "ours/two.py"],
        "ours/two.py": ["ours/four.py"],
        "ours/three.py": ["ours/two.py"],
        "ours/four.py": ["plugins"],
        "ours/five.py": ["ours/one.py", "plugins/a.py"],
        "plugins/a.py": [],
    }


def test_what_it_imports_through_others(imports):
    found = imported(Path("ours/one.py"), imports)
    assert sorted(map(str, found)) == ["ours/four.py", "ours/one.py", "ours/three.py", "ours/two.py", "plugins"]


LOADED = """
import importlib, json, os, pathlib, sys
import torch

stages = sorted(path.stem for path in pathlib.Path("stages").glob("[a-z]*.py"))
for stage in stages:  # the libraries once, which take seconds
    importlib.import_module(f"stages.{stage}")
ours = [name for name in sys.modules if name.partition(".")[0] in ("ladder", "stages", "benchmarks")]
for name in ours:
    del sys.modules[name]
registered = torch.serialization._package_registry  # by ladder.training.checkpointing, which is imported again
registered[:] = [entry for entry in registered if entry[0] != 30]
found = {}
for stage in stages:  # each in a process of its own that has no module of ours
    read, write = os.pipe()
    if os.fork() == 0:
        importlib.import_module(f"stages.{stage}")
        with os.fdopen(write, "w") as stream:
            loaded = [(name, module) for name, module in sys.modules.items() if name.startswith(("ladder.", "stages."))]
            json.dump([name for name, module in loaded if not hasattr(module, "__path__")], stream)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        found[stage] = json.load(stream)
    os.wait()
print(json.dumps(found))
"""


class AtOnce(ast.NodeTransformer):
    """Keep what runs when a module is imported: bodies of functions run later or never."""

    def visit_FunctionDef(self, node):  # noqa: N802
        node.body = [ast.Pass()]
        return node

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815


def test_python_imports_the_same_for_every_stage(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    loaded = json.loads(subprocess.run([sys.executable, "-c", LOADED], capture_output=True, check=True).stdout)
    packages = [Path(name) for name in ("ladder", "stages", "benchmarks")]
    whole = read_imports(packages)
    write_files(
        {
            str(tmp_path / path): ast.unparse(AtOnce().visit(ast.parse(path.read_text())))
            for package in packages
            for path in package.rglob("*.py")
        }
    )
    monkeypatch.chdir(tmp_path)
    at_once = read_imports(packages)
    assert len(loaded) >= 44
    for stage, names in loaded.items():
        path = Path(f"stages/{stage}.py")
        read = {found for found in imported(path, at_once) if found.suffix and found.parts[0] != "benchmarks"}
        assert {".".join(found.with_suffix("").parts) for found in read} == {*names}, stage
        assert read <= imported(path, whole), stage


def test_refuses_what_is_not_python(imports):
    Path("ours/six.py").write_text("import json\ndef :\n")
    with pytest.raises(UserError, match=r"^ours/six.py:2: not Python: invalid syntax$"):
        read_imports([Path("ours")])
