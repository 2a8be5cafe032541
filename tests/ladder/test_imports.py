import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import write_files
from ladder.imports import imported, read_imports
from ladder.run import Refused

ROOT = Path(__file__).parents[2]
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


@pytest.mark.parametrize("stage", ["prompts", "mixture", "questions"])
def test_python_imports_the_same(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    read = imported(Path(f"stages/{stage}.py"), read_imports(map(Path, ("ladder", "stages", "benchmarks"))))
    loaded = f"import json, sys, stages.{stage}; print(json.dumps([*sys.modules]))"
    names = json.loads(subprocess.run([sys.executable, "-c", loaded], capture_output=True, check=True).stdout)
    ours = {name for name in names if name.startswith(("ladder.", "stages."))}
    assert {".".join(path.with_suffix("").parts) for path in read if path.suffix} == ours


def test_refuses_what_is_not_python(imports):
    Path("ours/six.py").write_text("import json\ndef :\n")
    with pytest.raises(Refused, match=r"^ours/six.py:2: not Python: invalid syntax$"):
        read_imports([Path("ours")])
