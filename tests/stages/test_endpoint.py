import json
from pathlib import Path

import pytest

from conftest import user
from endpoints import Said, serving
from ladder.data.jsonl import read_json, read_rows, write_rows
from ladder.models.checkpoint import load
from ladder.models.rung import read_rung
from ladder.pipeline.endpoint_checks import endpoint_faults
from ladder.pipeline.stage import UserError, fit
from stages import answer, generate
from stages import base as base_stage
from stages.endpoint import Params, main


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A server that answers with the length of the last message, and its rung."""
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    with serving(lambda asked, n: Said(str(len(asked["messages"][-1]["content"])))) as server:
        write(tmp_path, server.base_url)
        yield server


def write(root: Path, base_url: str, **changed: object) -> Path:
    params = fit(Params, {"base_url": base_url, "model": "org/gpt:1", **changed}, "endpoint.gpt")
    main(params, root / "models/endpoint/gpt", root / "metrics/endpoint/gpt.json")
    return root / "models/endpoint/gpt"


def test_a_rung_without_weights_is_known_by_its_model(tmp_path: Path) -> None:
    rung = read_rung(write(tmp_path, "http://localhost:1/v1", key_env="MY_KEY"))
    assert (rung.rung, rung.method, rung.kind, rung.parameters) == ("endpoint/gpt", "endpoint", "endpoint", 0)
    assert rung.settings == {"model": "org/gpt:1", "limit": "max_tokens", "extra": {}}
    assert read_json(tmp_path / "models/endpoint/gpt/endpoint.json")["key_env"] == "MY_KEY"
    record = {"method": "endpoint", "parent": "", "parameters": 0, "trainable_parameters": 0}
    assert read_json(tmp_path / "metrics/endpoint/gpt.json") == record
    # The address and limits decide no answer; the model and the request fields do.
    moved = read_rung(write(tmp_path, "http://localhost:2/v1", concurrency=2, budget={"requests": 9}))
    assert moved.identity == rung.identity
    assert read_rung(write(tmp_path, "http://localhost:1/v1", extra={"top_k": 1})).identity != rung.identity
    with pytest.raises(
        UserError, match="expected a language model with weights, got none: it is a model behind an endp"
    ):
        load(tmp_path / "models/endpoint/gpt", tmp_path)


def test_it_answers_benchmarks_and_generates(served, tmp_path: Path, base: Path) -> None:
    model = tmp_path / "models/endpoint/gpt"
    write_rows(tmp_path / "q/ifeval.jsonl", [{"key": str(n), "turns": ["x" * n], "group": "g"} for n in (3, 5)])
    asking = answer.Params(ifeval=answer.Asking(rows=2, max_new_tokens=4))
    for _ in range(2):
        answer.main(asking, tmp_path / "q", model, base, tmp_path / "a", benchmarks=["ifeval"])
    rows = read_rows(tmp_path / "a/ifeval.jsonl")
    assert [row["response"] for row in rows] == ["3", "5"]
    assert len(served.asked) == 2
    record = read_json(tmp_path / "a/ifeval.fingerprint.json")
    assert (record["engine"], record["settings"]["endpoint"]["model"]) == ("endpoint", "org/gpt:1")
    write_rows(tmp_path / "prompts.jsonl", [{"id": "a", "prompt": user("four"), "checks": []}])
    drawn = {"prompts": "prompts", "model": "endpoint/gpt", "split": None, "samples": 1, "temperature": 0.0}
    params = generate.Params(**drawn, top_p=1.0, max_new_tokens=4, seed=0, edits=False)
    generate.main(params, tmp_path / "prompts.jsonl", model, base, tmp_path / "rows.jsonl", tmp_path / "g.json")
    assert read_rows(tmp_path / "rows.jsonl")[0]["completion"][0]["content"] == "4"


def test_an_engine_that_needs_weights_is_refused(tmp_path: Path, base: Path) -> None:
    model = write(tmp_path, "http://localhost:1/v1")
    write_rows(tmp_path / "q/ifeval.jsonl", [{"key": "a", "turns": ["x"], "group": "g"}])
    asking = answer.Params(ifeval=answer.Asking(rows=1, max_new_tokens=4, engine="decoder"))
    with pytest.raises(UserError, match="engine: decoder needs weights, and endpoint/gpt is a model behind an endpo"):
        answer.main(asking, tmp_path / "q", model, base, tmp_path / "a", benchmarks=["ifeval"])


def test_a_damaged_record_is_refused(tmp_path: Path, base: Path) -> None:
    model = write(tmp_path, "http://localhost:1/v1")
    (model / "endpoint.json").write_text(json.dumps({"model": "x"}))
    asking = answer.Params(ifeval=answer.Asking(rows=1, max_new_tokens=4))
    with pytest.raises(UserError, match=r"endpoint.json.base_url: missing"):
        answer.main(asking, tmp_path / "q", model, base, tmp_path / "a", benchmarks=["ifeval"])


def test_references_that_need_weights_are_faults() -> None:
    gpt = "endpoint/gpt"
    params = {
        "generate": {"a": {"model": gpt}},
        "sft": {"a": {"parent": gpt}},
        "teacher_logits": {"a": {"model": gpt}},
        "gkd": {"a": {"parent": "base", "teacher": gpt}},
        "merge": {"a": {"parents": ["base", gpt]}},
        "claims": {"accuracy": [gpt]},
        "lm_eval": {"arc": {"task": "arc_easy"}},
        "report": {"rungs": ["base", gpt]},
    }
    assert [fault.keys for fault in endpoint_faults(params)] == [
        ("sft", "a", "parent"), ("teacher_logits", "a", "model"), ("gkd", "a", "teacher"), ("merge", "a", "parents", 1),
        ("lm_eval", "arc"), ("claims", "accuracy", 0),
    ]  # fmt: skip


def test_a_ladder_without_weights_asks_endpoints_alone(tmp_path: Path) -> None:
    params = fit(base_stage.Params, {"source": None, "sha256": None, "dtype": "auto"}, "base")
    base_stage.main(params, tmp_path, tmp_path / "models/base", tmp_path / "base.json")
    rung = read_rung(tmp_path / "models/base")
    assert (rung.kind, rung.settings, rung.parameters) == ("endpoint", {"source": None}, 0)
    with pytest.raises(UserError, match="expected a language model with weights, got none: base.source is null"):
        load(tmp_path / "models/base", tmp_path / "models/base")
    with pytest.raises(UserError, match="base.system: no effect without a source; remove it"):
        base_stage.main(params.model_copy(update={"system": "merge"}), tmp_path, tmp_path / "b", tmp_path / "b.json")
    asked = {"a": {"model": "base", "endpoint": {"base_url": "x"}}, "b": {"model": "base"}}
    found = endpoint_faults({"base": {"source": None}, "generate": asked, "sft": {"s": {"parent": "base"}}})
    assert [(fault.keys, fault.sentence.partition(".")[0]) for fault in found] == [
        (("sft", "s", "parent"), "base has no weights, because base"),
        (("generate", "b", "model"), "base has no weights, because base"),
    ]
