"""Faults that `check` finds in params.yaml before anything runs: keys, message and closest valid word."""

import json
import subprocess

import pytest

from ladder.pipeline.dvc_file import origins, read_pipeline
from ladder.pipeline.param_checks import (
    adapter_faults,
    claim_faults,
    gate_faults,
    params_faults,
    placeholder_faults,
    rung_kind,
    source_faults,
    template_faults,
)
from ladder.pipeline.yaml_lines import Lines, dotted
from perf.pico import pico_model, pico_tokenizer

COMMIT = "8049631c405ae6576f93f445c6b8166f76f5505a"


def reported(faults):
    return {".".join(map(str, fault.keys)): fault.sentence for fault in faults}


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(
        "# a comment\nbase:\n  source: x\nsft:\n  chat: {parent: base,\n    data: filter/chat}\n"
        "report:\n  rungs:\n    - base\n    - sft/old\n  benchmarks: [a,\n    b]\n"
    )
    lines = Lines(path)
    assert lines.line(("base", "source")) == 3
    assert [lines.line(("sft", "chat", key)) for key in ("parent", "data")] == [5, 6]
    assert [lines.line(("report", "rungs", place)) for place in (0, 1)] == [9, 10]
    assert lines.line(("report", "benchmarks", 1)) == 12
    assert lines.where(("sft", "chat", "missing")) == f"{path}:5: sft.chat.missing"
    assert lines.where(("dpo", "chat")) == f"{path}: dpo.chat"
    assert dotted(("sft", "x\ny")) == r"sft.'x\ny'"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "NAME"),
        ("model", "ORG/MODEL"),
        ("model", "<model>"),
        ("model", "your-org/your-model"),
        ("model", "your_model"),
        ("model", "TODO"),
        ("model", "XXXX"),
        ("base_url", "http://…/v1"),
        ("base_url", "http://HOST:8000/v1"),
        ("base_url", "https://your-server/v1"),
        ("source", "hub:ORG/NAME@COMMIT"),
        ("source", f"hub:org/MODEL@{COMMIT}"),
        ("source", "path/to/model"),
        ("source", "/path/to/model"),
    ],
)
def test_placeholders(key, value):
    assert list(reported(placeholder_faults(("x",), {"endpoint": {key: value}}))) == [f"x.endpoint.{key}"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "gpt-4o"),
        ("model", "Qwen/Qwen3-8B"),
        ("model", "my-model"),
        ("model", "openai/gpt-oss-120b:NVFP4"),
        ("source", f"hub:HuggingFaceTB/SmolLM2-135M@{COMMIT}"),
        ("base_url", "http://localhost:8000/v1"),
        ("description", "put NAME here"),
    ],
)
def test_names_are_no_placeholders(key, value):
    assert not list(placeholder_faults(("x",), {key: value}))


def test_sources_that_fetch_would_refuse(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/raw").mkdir(parents=True)
    (tmp_path / "data/raw/mine.jsonl").touch()
    section = {
        "source": "hub:org/name",
        "append": [{"source": "hub:org/name@main"}, {"source": f"hub:org/name@{COMMIT}"}],
        "join": {"x": {"source": "wheel:a==1/b.json"}, "y": {"source": "wheel:a==1/b.json", "sha256": "0" * 64}},
    }
    found = reported(source_faults(("task", "mine"), section))
    assert list(found) == ["task.mine.source", "task.mine.append.0.source", "task.mine.join.x.source"]
    assert "expected @ and a commit of 40 hex digits" in found["task.mine.source"]
    assert "needs the sha256 of its member" in found["task.mine.join.x.source"]
    assert reported(source_faults(("source", "a"), {"source": "mine.jsn"})) == {
        "source.a.source": "no such file or folder: data/raw/mine.jsn (did you mean 'mine.jsonl'?)"
    }
    for outside in ("mine.jsonl", "/mine.jsonl", "data/raw/../mine.jsonl"):
        assert "expected a path in data/raw" in reported(source_faults(("base",), {"source": outside}))["base.source"]
    assert not list(source_faults(("base",), {"source": "data/raw/mine.jsonl"}))
    task = {"config": {"dataset_kwargs": {"data_files": {"test": "arc.jsonl"}}}, "include_path": "data/raw"}
    assert list(reported(source_faults(("lm_eval", "a"), task))) == ["lm_eval.a.config.dataset_kwargs.data_files.test"]
    for there in ("mine.jsonl", "*.jsonl"):
        assert not list(source_faults(("source", "a"), {"source": there}))


def test_templates_that_are_not_there_or_do_not_fit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data/templates"
    folder.mkdir(parents=True)
    (folder / "chatml.jinja").write_text(pico_tokenizer().chat_template)
    (folder / "endless.jinja").write_text("{% for m in messages %}{{ m['content'] }}\n{% endfor %}")
    pico_tokenizer().save_pretrained(tmp_path / "model")
    pico_model(pico_tokenizer()).config.save_pretrained(tmp_path / "model")

    def found(template):
        return reported(template_faults({"chat_template": template, "source": "model"}))

    assert found("chatml.jinja") == found(None) == found("trl:qwen3") == {}
    assert found("chatlm.jinja") == {
        "base.chat_template": "no such file: data/templates/chatlm.jinja (did you mean 'chatml.jinja'?)"
    }
    assert "ends an assistant's turn with" in found("endless.jinja")["base.chat_template"]
    assert "closest names: qwen3_training.jinja" in found("trl:qwen3_trainin")["base.chat_template"]


PARAMS = {
    "prune_layers": {"small": {"parent": "base"}},
    "sft": {
        "chat": {"parent": "base", "lora": {"r": 4}},
        "full": {"parent": "sft/chat", "lora": None},
        "folded": {"parent": "sft/chat", "lora": {"r": 4}},
        "on": {"parent": "sft/chat", "lora": "continue"},
        "round": {"parent": "sft/round", "lora": "continue"},
    },
}


@pytest.mark.parametrize(
    ("rung", "kind"),
    [
        ("base", "complete"),
        ("prune_layers/small", "complete"),
        ("sft/chat", "adapter"),
        ("sft/full", "complete"),
        ("sft/folded", "complete"),
        ("sft/on", "adapter"),
        ("sft/round", None),
        ("sft/none", None),
    ],
)
def test_the_kind_of_a_rung_follows_from_params(rung, kind):
    assert rung_kind(rung, PARAMS) == kind


def test_adapters_that_a_stage_would_refuse():
    four = {"load_in_4bit": True}
    dpo = {
        "good": {"parent": "sft/chat", "lora": "continue", "quantization": four},
        "new": {"parent": "base", "lora": {"r": 4}, "quantization": four},
        "whole": {"parent": "sft/full", "lora": "continue"},
        "null": {"parent": "base", "lora": None, "quantization": four},
        "other": {"parent": "sft/chat", "lora": {"r": 4}, "quantization": four},
        "scorer": {"parent": "reward/words", "lora": {"r": 4}},
    }
    found = reported(adapter_faults({**PARAMS, "dpo": dpo}))
    assert found["dpo.whole.lora"].startswith("continue needs an adapter, but the parent sft/full is complete")
    assert found["dpo.null.quantization"].startswith("quantized weights have no gradient")
    assert found["dpo.other.quantization"].startswith("a new adapter on quantized weights must start from base")
    assert found["dpo.scorer.parent"].startswith("expected a language model, got reward/words, a reward model")
    assert len(found) == 4


def test_gates_over_what_nothing_measures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    commands = ["init -q", "-c user.name=a -c user.email=a@b commit -q --allow-empty -m a", "tag v1"]
    for command in commands:
        subprocess.run(["git", *command.split()], check=True)
    params = {
        "report": {"benchmarks": ["ifeval"], "rungs": ["base", "sft/chat"]},
        "claims": {"heldout": ["base"]},
        "heldout": {"problems/maths-heldout": {}},
    }

    def found(**gate):
        entry = {"rung": "sft/chat", "against": "base", "allowed": {"ifeval": 5}, **gate}
        return reported(gate_faults({**params, "gate": {"tax": entry}}))

    assert found() == found(against="v1") == found(rung="base", allowed={"heldout/problems/maths-heldout": 1}) == {}
    assert found(rung="sft/chta") == {"gate.tax.rung": "no rung 'sft/chta' is scored (did you mean 'sft/chat'?)"}
    assert found(against="sft/old") == {
        "gate.tax.against": "'sft/old' is neither a scored rung nor a git revision; expected one of base, sft/chat"
    }
    assert found(allowed={"ifevall": 5}) == {
        "gate.tax.allowed.ifevall": "no stage scores 'ifevall' (did you mean 'ifeval'?)"
    }
    assert "Add it to claims.heldout" in found(allowed={"heldout/problems/maths-heldout": 1})["gate.tax.rung"]


def test_claims_about_what_nothing_measures():
    def found(measure, rung="dpo/chat"):
        claims = {"claims": [{"rung": rung, "measure": measure}]}
        params = {"claims": claims, "heldout": {"problems/maths": {}}, "reward": {"words": {}}}
        return reported(claim_faults(params))

    assert found("heldout/problems/maths:reward") == found("accuracy:normalized") == found("divergence") == {}
    assert found("reward", "reward/words") == {}
    near = "(did you mean 'heldout/problems/maths'?)"
    assert found("heldout/maths") == {"claims.claims.0": f"no stage measures 'heldout/maths' {near}"}
    assert found("reward") == {
        "claims.claims.0": "reward: dpo/chat is no rung of the stage reward; expected one of reward/words"
    }


def test_sections_are_held_against_their_types_unless_they_ran():
    pipeline = {"embedder": {"do": {"params": ["embedder.${key}"]}}, "questions": {"params": ["questions"]}}
    params = {"embedder": {"a": {"sorce": "x", "sha256": {}}}, "questions": {"seed": "x"}}
    found = reported(params_faults(params, pipeline, {}))
    assert found["embedder.a.sorce"] == "no such key (did you mean 'source'?); expected one of source, sha256"
    assert found["embedder.a.source"] == "missing; expected a value"
    assert "valid integer" in found["questions.seed"]
    recorded = json.loads(json.dumps({"embedder.a": params["embedder"]["a"], "questions": params["questions"]}))
    assert reported(params_faults(params, pipeline, recorded)) == {}
    assert reported(params_faults({"embedder": []}, pipeline, {})) == {
        "embedder": "expected named entries, {} for none, got []"
    }


def test_an_endpoint_says_what_it_lacks():
    pipeline = {"generate": {"do": {"params": ["generate.${key}"]}}}
    endpoint = {"base_ur": "http://localhost:8000/v1"}
    found = reported(params_faults({"generate": {"a": {"endpoint": endpoint}}}, pipeline, {}))
    assert found["generate.a.endpoint.base_ur"].startswith("no such key (did you mean 'base_url'?)")
    assert found["generate.a.endpoint.model"] == "missing; expected a value"


def test_a_dependency_is_found_in_params():
    pipeline = read_pipeline()
    params = {"dpo": {"chat": {"parent": "sft/chta"}}, "report": {"rungs": ["base", "sft/old"]}}
    stanza = pipeline["dpo"]["do"]
    parent = next(dep for dep in stanza["deps"] if "parent" in dep)
    assert list(origins("models/sft/chta", parent, pipeline["dpo"], params)) == [("dpo", "chat", "parent")]
    assert list(origins("models/sft/old", "models/${item.rung}", pipeline["answer"], params)) == [
        ("report", "rungs", 1)
    ]
