"""The engine keys of every section, and work by endpoints alone, in a process that never imports torch."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, user
from endpoints import Said, serving
from ladder.chat.encode import prompt_tokens
from ladder.data.jsonl import read_rows, write_rows
from ladder.inference.answer_cache import RungEngine
from ladder.inference.endpoint import Endpoint
from ladder.inference.engines import EndpointEngine, EngineSettings, open_engine
from ladder.inference.types import Sampling
from ladder.models.checkpoint import load
from ladder.pipeline.stage import UserError, fit, read_yaml

SERVER = {"base_url": "http://127.0.0.1:9/v1", "model": "served"}
PROGRAM = """
import json, sys
from pathlib import Path
endpoint, base, prompts = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
from ladder.eval.bench_command import bench
from ladder.judges.judge import Judging, load_judge
from stages import answer, generate, preferences, synthesize

out = lambda *names: [Path("out", name) for name in names]
draws = {"prompts": "prompts", "model": "base", "endpoint": endpoint, "split": None, "temperature": 1.0, "top_p": 1.0,
         "max_new_tokens": 20, "seed": 0, "edits": False}
data = Path("prompts.jsonl")
generate.main(generate.Params(**draws, samples=1), data, base, base, *out("g.jsonl", "g.json"))
pairs = preferences.Params(**draws, samples=8, pairs_per_prompt=1, rank="judge", ranker="base",
                           judge={"endpoint": endpoint})
preferences.main(pairs, data, base, base, base, prompts / "preferences", *out("p.jsonl", "v.jsonl", "p.json"))
made = synthesize.Params(method="persona", personas="inferred", model="base", endpoint=endpoint, seeds="seeds",
                         split=None, count=2, rounds=1, batch=2, novelty=None, temperature=1.0, top_p=1.0,
                         max_new_tokens=20, seed=0)
synthesize.main(made, prompts / "persona", data, base, base, *out("s.jsonl", "r.jsonl", "s.json"))
entry = {"max_new_tokens": 20, "rows": 2, "endpoint": {**endpoint, "model": "{rung}"}}
answers = answer.Params(ifeval=answer.Asking(**entry))
answer.main(answers, Path("questions"), base, base, Path("out/answer"), benchmarks=["ifeval"])
judge = load_judge(Judging(endpoint=endpoint), base, base)
print(judge.rate([[{"role": "user", "content": "Rate it."}]], progress=""))
bench("ifeval", endpoint["base_url"], "served")
loaded = {"torch", "transformers"} & sys.modules.keys()
assert not loaded, loaded
"""


def reply(asked, n):
    """Answers are good or bad by their seed; the judge prefers the good ones."""
    text = asked["messages"][-1]["content"]
    if text == "Rate it.":
        return Said("Rating: [[7]]")
    if "<<<answer" in text:
        return Said("[[A]]" if "good" in text.split("<<<")[1] else "[[B]]")
    seed = asked.get("seed", 0)
    return Said(f"A {('bad', 'good')[seed % 2]} answer of a few words {seed} {asked['model']}")


def test_work_by_endpoints_imports_no_torch(tmp_path: Path, base: Path) -> None:
    rows = [{"id": f"{n}", "prompt": user(f"Say {n} of these words."), "checks": []} for n in range(3)]
    write_rows(tmp_path / "prompts.jsonl", rows)
    write_rows(
        tmp_path / "questions/ifeval.jsonl", [{"key": row["id"], "turns": ["Go on."], "group": "g"} for row in rows]
    )
    task = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    write_rows(tmp_path / "data/task/ifeval.jsonl", [{"key": n, "prompt": f"Say {n}.", **task} for n in range(4)])
    (tmp_path / "data/punkt/tokenizers/punkt_tab/english").mkdir(parents=True)
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "params.yaml").write_text(
        "answer: {ifeval: {rows: 2, max_new_tokens: 4}}\nbenchmark: {ifeval: {resamples: 1000}}\n"
    )
    with serving(reply) as server:
        endpoint = {"base_url": server.base_url, "model": "served"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, json.dumps(endpoint), str(base), str(ROOT / "prompts")],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LADDER_WORK": str(tmp_path / "work")},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert "[7.0]" in done.stdout
    assert len(read_rows(tmp_path / "out/g.jsonl")) == 3
    pairs = read_rows(tmp_path / "out/p.jsonl")
    assert pairs and all("good" in pair["chosen"][0]["content"] for pair in pairs)
    assert read_rows(tmp_path / "out/s.jsonl")
    assert {row["response"].split()[-1] for row in read_rows(tmp_path / "out/answer/ifeval.jsonl")} == {"base"}
    assert len(read_rows(tmp_path / "data/bench/ifeval/served.jsonl")) == 2


def test_an_endpoint_answers_conversations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path))
    with serving(lambda asked, n: Said(asked["messages"][0]["content"])) as server:
        settings = EngineSettings(engine="endpoint", endpoint=Endpoint(base_url=server.base_url, model="m"))
        engine = open_engine(settings, tmp_path, tmp_path)
        assert isinstance(engine, EndpointEngine)
        answers = list(engine.generate([user("a"), user("b")], Sampling()))
        assert [(one.text, one.tokens, one.finished) for one in answers] == [("a", 3, True), ("b", 3, True)]


def test_every_engine_of_a_rung_answers_conversations_and_completes_token_ids(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path))
    conversations = [user("a"), user("b")]
    prompts = [prompt_tokens(load(base, base).tokenizer, messages) for messages in conversations]
    for name in ("auto", "decoder", "padded"):
        engine = open_engine(EngineSettings(engine=name), base, base)  # type: ignore[arg-type]
        assert isinstance(engine, RungEngine)
        answers = list(engine.generate(conversations, Sampling(max_new_tokens=9)))
        completions = engine.source.complete(prompts, Sampling(max_new_tokens=9))
        assert [(one.tokens, one.finished) for one in answers] == [
            (len(one.tokens), one.finished) for one in completions
        ]


LOCAL = {"engine": "vllm"}, "engine: expected 'auto', 'decoder' or 'padded'"
SERVED = {"endpoint": SERVER, "engine": "padded"}, "engine: padded asks the rung; remove `endpoint`"


@pytest.mark.parametrize(
    ("section", "changed", "sentence"),
    [
        ("generate.chat", *SERVED),
        ("preferences.chat", *SERVED),
        ("answer.ifeval", *SERVED),
        ("heldout.problems/maths-heldout", *SERVED),
        ("heldout.problems/maths-heldout", {"endpoint": SERVER}, "one model would answer for all of them"),
        ("judge_reliability", {"judge": SERVED[0]}, SERVED[1]),
        (
            "judge_reliability",
            {"judge": {"engine": "vllm"}},
            "which vLLM does not return; expected auto, decoder, padded",
        ),
        ("ppo.words", *LOCAL),
        ("gkd.online", *LOCAL),
        ("grpo.words", {"engine": "endpoint"}, "engine: expected 'auto', 'decoder', 'padded' or 'vllm'"),
        ("rloo.words", {"trainer": {"use_vllm": True}}, "trainer.use_vllm: set by `engine`"),
        ("generate.chat", {"engine": "slots"}, "engine: expected 'auto', 'decoder', 'padded', 'vllm' or"),
    ],
)
def test_the_key_engine_is_alike_in_every_section(section: str, changed: dict, sentence: str) -> None:
    stage, _, name = section.partition(".")
    entry = read_yaml(ROOT / "recipes/guide.yaml")[stage]
    entry = entry[name] if name else entry
    kind = importlib.import_module(f"stages.{stage}").Params
    kind = kind.__annotations__["__pydantic_extra__"].__args__[1] if stage in ("answer", "heldout") else kind
    for engine in ("auto", "decoder", "padded"):
        chosen = {"judge": {"engine": engine}} if stage == "judge_reliability" else {"engine": engine}
        fitted = fit(kind, {**entry, **chosen}, section)
        assert ("engine" in str(fitted.model_dump())) == (engine != "auto")
    with pytest.raises(UserError, match=sentence):
        fit(kind, {**entry, **changed}, section)


@pytest.mark.parametrize("stage", ["grpo", "rloo"])
def test_vllm_is_chosen_by_engine_in_a_training_too(stage: str) -> None:
    entry = read_yaml(ROOT / "recipes/guide.yaml")[stage]["words"]
    fitted = fit(importlib.import_module(f"stages.{stage}").Params, {**entry, "engine": "vllm"}, stage)
    assert fitted.trainer["use_vllm"] is True
    with pytest.raises(UserError, match="vllm_mode: no effect; expected it only with engine: vllm"):
        fit(type(fitted), {**entry, "trainer": {**entry["trainer"], "vllm_mode": "server"}}, stage)
