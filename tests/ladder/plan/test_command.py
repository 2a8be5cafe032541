"""The commands plan and advise."""

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from ladder.pipeline.errors import UserError
from ladder.plan.advise import Answers, advise, ask, decide
from ladder.plan.command import app


def output(*arguments):
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False, env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.output


def refusal(*arguments):
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, UserError)
    return str(result.exception)


def test_neither_torch_nor_dvc_is_imported():
    code = (
        "import sys; from ladder.plan.command import app; from typer.testing import CliRunner\n"
        "result = CliRunner().invoke(app, ['plan', '--json'])\n"
        "print(result.exit_code, sorted({'torch', 'dvc', 'transformers', 'pandas'} & set(sys.modules)))"
    )
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert reported.stdout.strip() == "0 []"


def test_a_model_as_text_markdown_and_json():
    text = output("plan", "--model", "Llama-3.1-8B", "--r", "32", "--gpu", "h100")
    assert "83.9M" in text and "8,030,261,248" in text
    assert max(map(len, text.splitlines())) <= 80
    markdown = output("plan", "--model", "Llama-3.1-8B", "--method", "qlora", "--format", "markdown")
    assert "| 32 | 13.6M | 27.3M | 83.9M | 1.04% |" in markdown
    found = json.loads(output("plan", "--model", "Llama-3.1-8B", "--method", "qlora", "--method", "lora", "--json"))
    assert [one["method"] for one in found["methods"]] == ["lora", "qlora"]
    assert found["ranks"]["all linear layers"]["16"] == 41_943_040


def test_the_base_of_params_yaml_and_a_folder(tmp_path):
    assert "134,515,008 parameters" in output("plan", "--model", "base")
    config = {"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24}
    config |= {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "494,032,768" in output("plan", "--model", str(tmp_path))


def test_the_graph_fits_the_terminal():
    text = output("plan", "dpo@words", "--gpu", "h200")
    assert "dpo@words" in text and "LoRA r16" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_graph_as_json():
    found = json.loads(output("plan", "sft@words", "--gpu", "cpu", "--json"))
    assert found["stages"][-1]["stage"] == "sft@words"
    assert found["stages"][-1]["cost"]["trainable"] == 4_884_480
    assert sum(found["counts"].values()) == len(found["stages"])


def test_refusals(tmp_path):
    assert refusal("plan", "--gpu", "h300").startswith("--gpu: expected one of h200")
    assert refusal("plan", "--model", "nothing").startswith("--model nothing: no such folder")
    assert refusal("plan", "--model", "phi-4", "--method", "lisa").startswith("--method: expected one of full")
    assert "no config.json in it" in refusal("plan", "--model", str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    assert f"{tmp_path}/config.json: not JSON" in refusal("plan", "--model", str(tmp_path))
    assert "config.json is not in the hub's cache" in refusal("plan", "--model", f"hub:org/nothing@{'0' * 40}")
    (tmp_path / "model.gguf").write_bytes(b"GGML")
    assert "not a GGUF file" in refusal("plan", "--model", str(tmp_path / "model.gguf"))
    assert refusal("advise", "--gap", "style", "--json").startswith("--prompted: missing")
    given = ("--prompted", "yes", "--data", "pairs", "--rows", "9", "--gpu", "cpu", "--json")
    assert refusal("advise", "--gap", "looks", *given).startswith("--gap: expected one of facts")


@pytest.mark.parametrize(
    ("gap", "prompted", "data", "method"),
    [
        ("facts", "no", "none", "RAG"), ("facts", "yes", "examples", "RAG"), ("style", "no", "examples", "prompting"),
        ("style", "yes", "examples", "SFT"), ("preference", "yes", "pairs", "DPO"),
        ("preference", "yes", "none", "DPO"),
        ("correctness", "yes", "checks", "GRPO"), ("correctness", "yes", "examples", "SFT"),
        ("cost", "yes", "teacher", "distillation"), ("style", "yes", "teacher", "distillation"),
        ("combine", "no", "models", "merging"),
    ],
)  # fmt: skip
def test_the_decision_table(gap, prompted, data, method):
    assert decide(Answers(gap, prompted, data, 1000, "cpu"))[0] == method


def test_advice_names_what_fits_the_gpu():
    reported = advise(Answers("style", "yes", "examples", 5000, "t4"), "Llama-3.1-8B").memory
    assert "t4 with QLoRA with gradient checkpointing" in reported
    assert "does not fit t4" in advise(Answers("style", "yes", "examples", 5000, "t4"), "Llama-3.3-70B").memory


def test_advice_as_json_and_by_questions():
    found = json.loads(
        output(
            "advise",
            "--gap",
            "style",
            "--prompted",
            "yes",
            "--data",
            "examples",
            "--rows",
            "20",
            "--gpu",
            "h100",
            "--json",
        )
    )
    assert (found["method"], found["recipe"]) == ("SFT", "recipes/data.yaml")
    assert found["commands"] == ["ladder recipe recipes/data.yaml", "dvc repro sft@words"]
    assert "20 rows are few for SFT" in found["first"]


def test_an_answer_that_does_not_fit_is_asked_for_again():
    asking, answers = typer.Typer(), []

    @asking.command()
    def questions() -> None:
        answers.append(ask({"gap": "", "prompted": "yes", "data": "", "rows": "", "gpu": ""}))

    result = CliRunner().invoke(asking, [], input="looks\nstyle\npairs\nmany\n300\n\n")
    assert result.exit_code == 0, result.output
    assert answers == [Answers("style", "yes", "pairs", 300, "cpu")]
    assert "expected one of facts" in result.output and "expected a whole number, got 'many'" in result.output
    assert "Did you measure" not in result.output
