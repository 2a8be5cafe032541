"""The command line as a user sees it: help, errors, exit codes, pipes and terminals."""

import json
import os
import pty
import signal
import subprocess
import sys

import pytest
import typer
from dvc.cli.parser import get_main_parser

from conftest import ROOT
from ladder.__main__ import main
from ladder.cli.app import app
from ladder.cli.group import LAZY, lazy_command

LADDER = [sys.executable, "-m", "ladder"]
COMMANDS = {**typer.main.get_command(app).commands, **{name: lazy_command(name) for name in LAZY}}
HEAVY = ["torch", "transformers", "dvc", "datasets", "pandas", "numpy", "scipy", "httpx"]


def environment(**changes):
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **changes}


def test_help_of_every_command_loads_no_large_library():
    code = (
        "import json, sys, typer\n"
        "from ladder.__main__ import main\n"
        "from ladder.cli.app import app\n"
        "from ladder.cli.group import LAZY\n"
        "for words in [[], *([name] for name in [*typer.main.get_command(app).commands, *LAZY])]:\n"
        "    print('\\f')\n"
        "    main([*words, '--help'])\n"
        "print('\\f', json.dumps([*sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(COLUMNS="100"), capture_output=True, text=True, check=True
    )
    _, _, *pages, loaded = done.stdout.split("\f")
    assert len(pages) == len(COMMANDS) >= 12
    assert [name for name in json.loads(loaded) if name.partition(".")[0] in HEAVY] == []
    for name, page in zip(COMMANDS, pages, strict=True):
        assert f"Usage: ladder {name}" in page and f"Example: ladder {name}" in page and "--help" in page
        assert COMMANDS[name].help.partition("\n")[0].strip("`")[:40] in page


@pytest.mark.parametrize("name", COMMANDS)
def test_an_example_is_a_valid_command_line(name):
    words = COMMANDS[name].epilog.removeprefix(f"Example: ladder {name}").partition(">")[0].partition(";")[0].split()
    assert COMMANDS[name].make_context(name, words).command.name == name


def test_repro_has_the_options_of_dvc():
    parsers = next(action for action in get_main_parser()._actions if action.dest == "cmd").choices
    common = {action.dest for action in parsers["repro"]._actions} & {action.dest for action in parsers["add"]._actions}
    theirs = {name for action in parsers["repro"]._actions for name in action.option_strings
              if action.dest not in common - {"targets", "glob", "force", "no_commit"}}  # fmt: skip
    ours = {name for parameter in COMMANDS["repro"].params for name in parameter.opts if name.startswith("-")}
    assert ours == theirs | {"--jobs", "-j"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["chekc"], "ladder: chekc: no such command (did you mean 'check'?)\n"),
        (["check", "--jsn"], "ladder: check: --jsn: no such option (did you mean '--json'?)\n"),
        (["diff"], "ladder: diff: missing argument 'REV'\n"),
        (["diff", "HEAD", "--prompts", "x"], "ladder: diff: invalid value for '--prompts': "),
        (["recipe"], "ladder: recipe: invalid value for RECIPE: expected the name of a recipe, or --list\n"),
        (["bench", "ifeval"], "ladder: bench: missing option '--model'\n"),
        (["check", "[red]x[/red]"], "ladder: check: got unexpected extra argument(s) ([red]x[/red])\n"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    found = capsys.readouterr()
    assert (stopped.value.code, found.out) == (2, "")
    assert found.err.startswith(said) and found.err.count("\n") == 1


def test_brackets_in_a_users_text_are_no_markup(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^ladder: \[bold\]x\[/bold\]: no such recipe"):
        main(["recipe", "[bold]x[/bold]"])


def terminal(*words, columns, **changes):
    """What a terminal of this width shows."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.execve(LADDER[0], [*LADDER, *words], environment(COLUMNS=str(columns), **changes))
    shown = b""
    while True:
        try:
            part = os.read(descriptor, 1 << 16)
        except OSError:  # Linux reports the end of a terminal as an error
            part = b""
        if not part:
            break
        shown += part
    os.close(descriptor)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    return shown.decode()


def test_help_has_escape_codes_on_a_terminal_alone_and_fits_its_width():
    assert "\x1b[" in terminal("recipe", "--help", columns=60)
    plain = terminal("recipe", "--help", columns=60, NO_COLOR="1")
    assert "\x1b" not in plain and max(len(line.rstrip()) for line in plain.splitlines()) == 60
    piped = subprocess.run([*LADDER, "--help"], env=environment(GITHUB_ACTIONS="true"), capture_output=True, text=True)
    assert (piped.returncode, piped.stderr) == (0, "") and "\x1b" not in piped.stdout


def test_a_closed_pipe_is_no_error():
    for words in (["--help"], ["recipe", "gpu", "--dry-run"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([*LADDER, *words], cwd=ROOT, env=environment(), stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert done.stderr == b""


def test_ctrl_c_ends_with_130(tmp_path):
    os.mkfifo(tmp_path / "params.yaml")  # the command is at work while it waits for its parameters
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "r.yaml").write_text("base: {}\n")
    process = subprocess.Popen(
        [*LADDER, "recipe", "r.yaml"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )
    with (tmp_path / "params.yaml").open("w"):
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert (process.returncode, said) == (130, "ladder: interrupted; run again to continue\n")


def test_table_is_text_or_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"^ladder: report/table.md: no such file; "):
        main(["table"])
    (tmp_path / "report").mkdir()
    (tmp_path / "report/table.md").write_text("| a |\n\n")
    (tmp_path / "report/table.json").write_text('[{"rung": "base"}]')
    main(["table"])
    assert capsys.readouterr().out == "| a |\n"
    main(["table", "--json"])
    assert json.loads(capsys.readouterr().out) == [{"rung": "base"}]


def test_bash_completes_commands_and_names():
    def completed(line):
        changes = {"_LADDER_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        done = subprocess.run([*LADDER], cwd=ROOT, env=environment(**changes), capture_output=True, text=True)
        assert done.stderr == ""
        return done.stdout.split()

    assert completed("ladder rep") == ["repro", "report"]
    assert completed("ladder score ifb") == ["ifbench"]
    assert completed("ladder repro sft@wor") == ["sft@words"]
    assert completed("ladder recipe gp") == ["gpu"]
    assert completed("ladder init --recipe ql") == ["qlora-8b"]


def test_the_script_runs_the_code_of_the_copy_in_which_it_is_called(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "ladder").mkdir()
    (tmp_path / "ladder/__main__.py").write_text("import sys; print('the other copy', *sys.argv[1:])")
    script = "import sys; from ladder.__main__ import main; sys.argv[0] = 'ladder'; main()"

    def said(folder):
        command = [sys.executable, "-c", f"import sys; sys.path[0] = {str(ROOT)!r}; {script}", "--version"]
        changes = {"PYTHONPATH": ""}
        return subprocess.run(command, cwd=folder, env=environment(**changes), capture_output=True, text=True).stdout

    assert said(tmp_path) == "the other copy --version\n"
    assert said(ROOT).startswith("ladder 0.")
