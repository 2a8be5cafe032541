"""`ladder recipe`: the lines of other keys keep every byte."""

import json
import shutil
import subprocess

import pytest
from ruamel.yaml import YAML

from conftest import ROOT
from ladder.__main__ import main
from ladder.cli.recipe import applied
from ladder.cli.yaml_edit import Editor
from ladder.pipeline.stage import UserError
from ladder.pipeline.yaml_lines import Lines

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text):
    return YAML(typ="safe", pure=True).load(text)


def merged(data, new):
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(data.get(name), dict):
            merged(data[name], value)
        else:
            data[name] = value
    return data


def leaves(data, keys=()):
    if isinstance(data, dict) and data:
        return [leaf for name, value in data.items() for leaf in leaves(value, (*keys, name))]
    return [keys]


def lines_of(root, keys):
    """1-based lines of a key and its value, by ruamel's marks; empty for a key that the file lacks."""
    node, found = root, range(0)
    for key in keys:
        pair = next((pair for pair in node.value if pair[0].value == str(key)), None)
        if pair is None:
            return found if not node.value else range(0)  # `{}` itself is rewritten
        last = pair[1].end_mark.line + (pair[1].end_mark.column > 0)
        found, node = range(pair[0].start_mark.line + 1, max(last, pair[0].start_mark.line + 1) + 1), pair[1]
    return found


def only_named_lines_change(path, recipe, before, after):
    root = Lines(path).root
    named = {line for keys in leaves(load(recipe.read_text())) for line in lines_of(root, keys)}
    kept = [line for number, line in enumerate(before.splitlines(keepends=True), 1) if number not in named]
    rest = iter(after.splitlines(keepends=True))
    lost = [line for line in kept if line not in rest]  # `in` consumes: kept lines must come in the same order
    assert lost == []
    assert load(after) == merged(load(before), load(recipe.read_text()))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_shipped_recipe_changes_only_lines_that_it_names(repository, recipe, newline):
    path = repository / "params.yaml"
    ground = ROOT / "recipes/guide.yaml" if recipe.stem == "gpu" else path  # sizes of the guide's entries
    text = ground.read_text().replace("seed: 0\n", "seed:   0   # mine\n\n\n").replace("\n", newline)
    path.write_bytes(text.encode())
    found = applied(recipe)
    assert found.before == text and found.changed
    only_named_lines_change(path, recipe, found.before, found.after)
    assert found.after.count("\n") == found.after.count(newline)
    for line in found.diff.splitlines()[2:]:
        assert line[:1] in " -+@\\" or not line


CASES = {
    "scalar keeps its comment and the quotes of the recipe": (
        "sft:\n    a:  # one\n        lr:   1.0e-4   # low\n        seed: '7'\n",
        "sft: {a: {lr: 2.0e-4, seed: \"8\"}}\n",
        "sft:\n    a:  # one\n        lr:   2.0e-4   # low\n        seed: \"8\"\n",
    ),
    "flow mapping": (
        "a: {b: 1, c: {d: [1, 2]},\n    e: x}  # end\n",
        "a: {c: {d: [3]}}\n",
        "a: {b: 1, c: {d: [3]},\n    e: x}  # end\n",
    ),
    "a url goes into a flow mapping with quotes": (
        "a: {b: {source: x}, c: 1}\n",
        "a:\n  b:\n    source: http://h:1/v1\n",
        "a: {b: {source: \"http://h:1/v1\"}, c: 1}\n",
    ),
    "new key in a flow mapping": (
        "a: {b: {x: 1}}  # c\n",
        "a:\n  d:\n    y: [1]\n",
        "a: {b: {x: 1}, d: {y: [1]}}  # c\n",
    ),
    "new entry after the last one": (
        "a:\n  b:\n    x: 1  # last\n\n# next\nz: 1\n",
        "a:\n  # about c\n  c:  # new\n    y: 2.0  # two\n",
        "a:\n  b:\n    x: 1  # last\n  c:  # new\n    y: 2.0  # two\n\n# next\nz: 1\n",
    ),
    "empty section": ("a: {}  # none\n\nb: 1\n", "a:\n  c:\n    - 1\n", "a:  # none\n  c:\n    - 1\n\nb: 1\n"),
    "list in block style to one line": ("a:\n  # why\n  - 1\n  - 2  # two\nb: 1\n", "a: [3]\n", "a: [3]\nb: 1\n"),
    "one line to a list in block style": ("a: [1]  # c\nb: 1\n", "a:\n- 2\n- x: 3\n", "a:  # c\n- 2\n- x: 3\nb: 1\n"),
    "null": ("a:  # c\nb: 1", "a: 2\n", "a: 2  # c\nb: 1"),
    "no newline at the end": ("a: 1\nb: {}", "b: {c: 2}\n", "a: 1\nb:\n  c: 2"),
    "block text": ("a: |\n  one\n  two\n\nb: 1\n", "a: x\n", "a: x\n\nb: 1\n"),
    "an alias is written out": (
        "x: &d {p: 1, q: 2}\ny: *d\n",
        "y: {q: 3}\n",
        "x: &d {p: 1, q: 2}\ny: {p: 1, q: 3}\n",
    ),
    "a merged key is overridden": (
        "x: &d {p: 1}\ny:\n  <<: *d\n  q: 2\n",
        "y: {p: 3}\n",
        "x: &d {p: 1}\ny:\n  <<: *d\n  q: 2\n  p: 3\n",
    ),
    "true is not 1": ("a: 1\n", "a: true\n", "a: true\n"),
    "equal values stay as they are": ("a: 1.0e-1\nb: {c: 'x'}\n", "a: 0.1\nb: {c: x}\n", "a: 1.0e-1\nb: {c: 'x'}\n"),
}  # fmt: skip


@pytest.mark.parametrize(("before", "values", "after"), CASES.values(), ids=CASES)
def test_values_are_merged_into_a_text(before, values, after):
    assert Editor(before, values).merged(load(before), load(values)) == after
    crlf = before.replace("\n", "\r\n")
    assert Editor(crlf, values).merged(load(before), load(values)) == after.replace("\n", "\r\n")


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ("a: {x: &v 1}\nb: {x: *v}\n", "a: {x: 2}\n", "a.x: cannot be changed in this file: .*undefined alias"),
        ("a: &v {x: 1}\nb: *v\n", "a: {x: 2}\n", "b.x: the change of a.x would change it too"),
    ],
)
def test_a_change_that_an_alias_would_repeat_is_refused(text, values, said):
    with pytest.raises(UserError, match=said):
        Editor(text, values).merged(load(text), load(values))


def test_a_recipe_is_found_by_name_listed_and_shown_without_writing(repository, capsys):
    before = (repository / "params.yaml").read_bytes()
    main(["recipe", "gpu", "--dry-run"])
    diff = capsys.readouterr().out
    assert (repository / "params.yaml").read_bytes() == before
    patched = subprocess.run(["git", "apply", "-p0", "-"], input=diff.encode(), cwd=repository, capture_output=True)
    assert (patched.returncode, patched.stderr) == (0, b"")
    by_patch = (repository / "params.yaml").read_bytes()
    (repository / "params.yaml").write_bytes(before)
    main(["recipe", "recipes/gpu.yaml"])
    assert (repository / "params.yaml").read_bytes() == by_patch != before
    capsys.readouterr()
    main(["recipe", "gpu"])
    assert capsys.readouterr().out == "params.yaml has these values already\n"
    main(["recipe", "--list", "--json"])
    listed = {row["recipe"]: row["kind"] for row in json.loads(capsys.readouterr().out)}
    assert [path for path, kind in listed.items() if kind == "change"] == [f"recipes/{p.name}" for p in RECIPES]
    assert "recipes/projects/qlora-8b.yaml" in listed


def test_a_recipe_that_does_not_fit_is_refused_with_its_line(repository):
    before = (repository / "params.yaml").read_bytes()
    for text, said in {
        "sft:\n  words:\n    treiner: {}\n": r"mine.yaml:3: sft.words.treiner: not in params.yaml .did you mean 'tr",
        "sftt: {}\n": r"mine.yaml:1: sftt: not in params.yaml \(did you mean 'sft'\?\)",
        "sft:\n  'a b': {parent: base}\n": r"mine.yaml:2: sft.a b: entry name 'a b'",
    }.items():  # fmt: skip
        (repository / "mine.yaml").write_text(text)
        with pytest.raises(SystemExit, match=said):
            main(["recipe", "mine.yaml"])
    with pytest.raises(SystemExit, match=r"gpx: no such recipe \(did you mean 'gpu'\?\)"):
        main(["recipe", "gpx"])
    assert (repository / "params.yaml").read_bytes() == before


def test_a_recipe_may_add_the_number_of_seeds(repository):
    before = (repository / "params.yaml").read_text()
    (repository / "three.yaml").write_text("report: {seeds: 3}\n")
    main(["recipe", "three.yaml"])
    after = (repository / "params.yaml").read_text()
    assert load(after)["report"] == {**load(before)["report"], "seeds": 3}
    written = load((repository / "links.yaml").read_text())
    assert "sft/words+2" in written["rungs"]["report"] and written["sft"]["words+2"]["entry"] == "words"
    (repository / "three.yaml").write_text("questions: {seeds: 3}\n")
    with pytest.raises(SystemExit, match="questions.seeds: not in params.yaml"):
        main(["recipe", "three.yaml"])
