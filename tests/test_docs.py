"""Documentation: links, anchors, paths and commands exist, and every page is in the index."""

import json
import re
import shlex
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
from dvc.cli import DvcParserError
from dvc.cli.parser import get_main_parser

from ladder.cli.app import app
from ladder.cli.group import LAZY, lazy_command
from ladder.cli.reference import written
from ladder.pipeline.stage import read_params, read_yaml

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ROOT_PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*ROOT_PAGES, *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^()\s]+)\)")
OUR_PATH = re.compile(r"(?:bench|benchmarks|ladder|launch|recipes|stages|tests)/[\w./-]+\.(?:jsonl|json|py|yaml)")
PLACEHOLDER = re.compile(r"[A-Z]{3,}|…")
COMMANDS = {**typer.main.get_command(app).commands, **{name: lazy_command(name) for name in LAZY}}
COMMAND = re.compile(r"(?:\w+=\S* |\w+=\"[^\"]*\" )*(?:make|python -m|dvc|ladder) ")
CREATED = {"benchmarks/capitals.py"}
"""Files that a page asks the reader to create."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", text(page))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: list[str] = []
    for heading in re.findall(r"^#+ +(.+?)\s*$", prose(page), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return set(found)


def broken_links(page: Path) -> list[str]:
    """Relative links of a page whose file or anchor does not exist."""
    faults = []
    for target in LINK.findall(SPAN.sub("", prose(page))):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            faults.append(target)
    return faults


def shell_lines(page: Path) -> list[str]:
    """Commands of a page: lines of its shell blocks, and its code spans."""
    blocks = "\n".join(body for language, body in FENCE.findall(text(page)) if language in ("", "sh"))
    spans = [span for span in SPAN.findall(prose(page)) if "..." not in span]
    return [*blocks.replace("\\\n", " ").splitlines(), *spans]


def commands(page: Path) -> list[list[str]]:
    """The words of each command of a page (see COMMAND), without assignments before it."""
    found = []
    for line in shell_lines(page):
        if not COMMAND.match(line):
            continue
        for command in re.split(r"&&|;|(?<!\|)\|(?!\|)", line):
            words = shlex.split(command.partition(" >")[0], comments=True)
            while words and "=" in words[0]:
                words.pop(0)
            found.append(words)
    return found


def yaml_blocks(pages: Iterable[Path]) -> str:
    """The example entries of params.yaml on some pages."""
    return "".join(body for page in pages for language, body in FENCE.findall(text(page)) if language == "yaml")


def unknown(command: list[str], examples: str) -> str | None:
    """What a command names that does not exist, or the command if it cannot be parsed; None if it can run."""
    return missing(command, examples) or unparsed(command)


def missing(command: list[str], examples: str) -> str | None:
    """The target, module or entry that a command names and that does not exist."""
    match [word for word in command if not word.startswith("--")]:
        case ["make", target, *_]:
            known = re.findall(r"^([\w%-]+):", text(ROOT / "Makefile"), re.MULTILINE)
            return None if any(fnmatch(target, name.replace("%", "*")) for name in known) else f"make {target}"
        case ["ladder", name, *_] if not PLACEHOLDER.search(name):
            return None if name in COMMANDS or name.startswith("[") else f"ladder {name}"
        case ["python", "-m", module, *_] if not PLACEHOLDER.search(module):
            path = ROOT / module.replace(".", "/")
            return None if path.with_suffix(".py").is_file() or path.is_dir() else module
        case ["dvc", "repro", *targets]:
            targets = [target for target in targets if not target.startswith("-")]
            return next((target for target in targets if not exists(target, examples)), None)
    return None


def unparsed(command: list[str]) -> str | None:
    """A command that the parser of ladder or DVC refuses, or of a stage with another number of arguments; else None."""
    match command:
        case ["ladder", name, *words] if words and name in COMMANDS and "[" not in "".join(words):
            try:
                COMMANDS[name].make_context(name, ["1" if word.isupper() else word for word in words])
            except typer.TyperException:
                return " ".join(command)
            except typer.Exit:  # --help
                return None
        case ["dvc", *words]:
            try:
                get_main_parser().parse_args(words)
            except (DvcParserError, SystemExit):
                return " ".join(command)
        case ["python", "-m", module, *paths] if module.startswith("stages.") and not PLACEHOLDER.search(module):
            stage = module.partition(".")[2]
            stanza = read_yaml(ROOT / "dvc.yaml")["stages"][stage]
            wanted = len(stanza.get("do", stanza)["cmd"].split()[3:])
            return " ".join(command) if paths and len(paths) != wanted else None
    return None


def exists(target: str, examples: str) -> bool:
    """Whether dvc.yaml has the stage, and params.yaml or an example has its entry."""
    stage, _, entry = target.partition("@")
    if PLACEHOLDER.search(target):
        return True
    entries = read_params(ROOT / "params.yaml").get(stage) or {}
    known = not entry or entry in entries or re.search(rf"\b{re.escape(entry)}:", examples)
    return stage in read_yaml(ROOT / "dvc.yaml")["stages"] and bool(known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page):
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "other.md").write_text("# One & two\n\n## `a b`, c\n\n## `a b`, c\n\n```sh\n# comment\n```\n")
    page = tmp_path / "page.md"
    page.write_text("[a](other.md#one--two) [b](other.md#a-b-c-1) [c](https://x.org) `[d](gone.md)` [e](gone.md)\n")
    assert broken_links(page) == ["gone.md"]
    page.write_text("[a](other.md#a-b-c-2) [b](other.md#comment) [c](#here)\n\n# Here\n")
    assert broken_links(page) == ["other.md#a-b-c-2", "other.md#comment"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_paths_name_what_exists(page):
    examples = yaml_blocks(PAGES)
    wrong = [fault for command in commands(page) if (fault := unknown(command, examples))]
    paths = [path for line in shell_lines(page) for path in OUR_PATH.findall(line) if not PLACEHOLDER.search(path)]
    wrong += sorted({path for path in paths if path not in CREATED and not (ROOT / path).exists()})
    assert wrong == []


def test_a_wrong_command_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        '```sh\nA=1 B="x y" dvc repro sft@words srt\nmake ladder && dvc repro sft@gone  # comment\n```\n'
        "```yaml\nsft: {mine: {}}\n```\n`ladder chekc` `python -m stages.gone` `dvc repro sft@mine`\n"
        "`make lader` `dvc repro STAGE@ENTRY`\n"
        "`dvc exp run -S a=1 --queues` `dvc exp show --only-changed` `dvc psh`\n"
        "`python -m stages.sft chat models/base` `ladder check --jsn` `ladder diff HEAD~1 --prompts N`\n"
    )
    found = [unknown(command, yaml_blocks([page])) for command in commands(page)]
    assert [fault for fault in found if fault] == [
        "srt", "sft@gone", "ladder chekc", "stages.gone", "make lader", "dvc exp run -S a=1 --queues", "dvc psh",
        "python -m stages.sft chat models/base", "ladder check --jsn",
    ]  # fmt: skip
    assert len(found) == 14


@pytest.mark.parametrize("index", [DOCS / "README.md", ROOT / "mkdocs.yml"], ids=lambda index: index.name)
def test_every_page_is_in_the_index_and_the_site(index):
    listed = re.findall(r"[\w-]+\.md", text(index).replace("`README.md`", ""))
    pages = {page.name for page in DOCS.glob("*.md")} - {"README.md"}
    assert sorted(set(listed) - {"README.md"}) == sorted(pages)
    assert len(listed) == len(set(listed))


def test_the_reference_of_commands_is_that_of_the_program():
    page = text(DOCS / "commands.md")
    assert written(page) == page  # python -m ladder.cli.reference


def test_the_overview_is_short():
    assert (ROOT / "README.md").stat().st_size < 10_000


def test_the_results_in_the_readme_are_those_of_the_committed_report():
    lines = {line["rung"]: line for line in json.loads((ROOT / "report/table.json").read_text())}
    shown = re.findall(
        r"^\| `([\w/]+)` \| `([\w/]+)` \| `(\w+)` \| (\d+) \| (.+?) \| (.+?), ([a-z ]+) \|$",
        (ROOT / "README.md").read_text(),
        re.MULTILINE,
    )
    assert len(shown) >= 8
    for rung, baseline, benchmark, n, score, change, verdict in shown:
        found = lines[rung]["benchmarks"][benchmark]
        against, (low, high) = found["against_baseline"], found["interval"]
        assert (baseline, int(n), verdict) == (lines[rung]["baseline"], against["n"], against["verdict"])
        assert score == f"{found['score']:.1f} [{low:.1f}, {high:.1f}]"
        assert change == f"{against['difference']:+.1f} [{against['low']:.1f}, {against['high']:.1f}]"
    improved = [
        (name, rung)
        for rung, line in lines.items()
        for name, one in line["benchmarks"].items()
        if (one["against_baseline"] or {}).get("verdict") == "improved"
    ]
    assert len(improved) >= 4  # what the demonstration promises
