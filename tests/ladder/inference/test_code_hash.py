import pytest

from ladder.inference.code_hash import LADDER, LOCAL, ROOTS, code_hash
from ladder.pipeline.imports import imports_of


def test_an_engine_has_its_own_modules_and_not_those_of_others():
    found = {
        engine: {path.relative_to(LADDER).as_posix() for path in imports_of(LADDER / root, [LADDER])}
        for engine, root in {**ROOTS, "decoder": LOCAL}.items()
    }
    for module, engines in {
        "inference/decoder.py": {"decoder", "vllm"},
        "inference/engine.py": {"decoder", "vllm"},
        "inference/hf_generate.py": {"decoder", "vllm"},
        "models/weights.py": {"decoder", "vllm"},
        "inference/vllm_engine.py": {"vllm"},
        "inference/completions.py": {"endpoint"},
        "chat/rendering.py": {"decoder", "vllm", "endpoint"},
        "eval/scores.py": set(),
        "filters/passes.py": set(),
    }.items():
        assert {engine for engine, modules in found.items() if module in modules} == engines, module


@pytest.mark.parametrize(
    ("module", "edit", "changes"),
    [
        ("inference/local.py", "x = 2", True),
        ("inference/engine.py", "x = 2", True),
        ("eval/ask.py", "x = 2", True),
        ("inference/engine.py", "# a comment", False),
        ("inference/engine.py", 'print("a log line")', False),
        ("inference/client.py", "x = 2", False),
        ("pipeline/stage.py", "x = 2", False),
        ("training/trainer_keys.py", "x = 2", False),
    ],
)
def test_an_edit_counts_if_it_may_change_an_answer(tmp_path, module, edit, changes):
    ladder = tmp_path / "ladder"
    for name, text in {
        "inference/local.py": "from ladder.inference import engine\nfrom ladder.pipeline import stage",
        "inference/engine.py": "print('a line')\nx = 1",
        "inference/client.py": "x = 1",
        "pipeline/stage.py": "from ladder.training import trainer_keys",
        "training/trainer_keys.py": "x = 1",
        "eval/ask.py": "x = 1",
    }.items():
        (ladder / name).parent.mkdir(parents=True, exist_ok=True)
        (ladder / name).write_text(text + "\n")
    before = code_hash("decoder", ["eval/ask.py"], ladder)
    assert before == code_hash("auto", ["eval/ask.py"], ladder) != code_hash("endpoint", ["eval/ask.py"], ladder)
    path = ladder / module
    text = path.read_text()
    path.write_text(text.replace("print('a line')", edit) if "print" in edit else f"{text}{edit}\n")
    assert (code_hash("decoder", ["eval/ask.py"], ladder) != before) == changes
