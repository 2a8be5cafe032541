"""Modules that a stage must not depend on: an edit of them would rerun it although it calls nothing of them."""

from pathlib import Path

import pytest

from ladder.filters.registry import MODEL_FILTERS, model_modules
from ladder.pipeline.imports import imported, read_imports

ROOT = Path(__file__).parents[1]
DECODER, STATISTICS = "ladder/inference/engine.py", "ladder/statistics.py"
JUDGE, CLIENT = "ladder/judges/judge.py", "ladder/inference/client.py"
CHECKPOINT, VERIFIERS = "ladder/models/checkpoint.py", "ladder/verifiers/constraints.py"
FORBIDDEN = {
    # Stages that make, filter and mix rows: no model writes or scores in them.
    "source": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "task": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "prompts": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "problems": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "part": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT, VERIFIERS],
    "mixture": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT, VERIFIERS],
    "pairs": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "filter": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "card": [DECODER, JUDGE, CLIENT],
    # Stages that ask: how a result is tested for significance does not change an answer.
    "questions": [DECODER, STATISTICS, JUDGE, CLIENT, CHECKPOINT],
    "generate": [STATISTICS, JUDGE],
    "synthesize": [STATISTICS, JUDGE],
    "preferences": [STATISTICS],
    # Training, and stages that read stored tokens, generate nothing.
    **{
        name: [DECODER, STATISTICS, JUDGE, CLIENT]
        for name in ("base", "prune_layers", "sft", "dpo", "simpo", "orpo", "kto")
    },
    **{
        name: [DECODER, STATISTICS, JUDGE, CLIENT]
        for name in ("reference_logprobs", "teacher_logits", "distill", "distill_features")
    },
    **{name: [DECODER, STATISTICS, JUDGE, CLIENT, VERIFIERS] for name in ("merge", "merge_input")},
    # Practice generates and asks no judge of the evaluation.
    **{name: [STATISTICS, JUDGE] for name in ("grpo", "rloo", "ppo", "gkd")},
    # Reports read numbers.
    **{name: [DECODER, JUDGE, CLIENT, CHECKPOINT] for name in ("report", "gate")},
}


@pytest.fixture(scope="module")
def imports():
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return read_imports(map(Path, ("ladder", "stages", "benchmarks")))


@pytest.mark.parametrize("stage", FORBIDDEN)
def test_a_stage_does_not_depend_on_code_that_it_never_calls(stage, imports):
    found = {path.as_posix() for path in imported(Path("stages", f"{stage}.py"), imports)}
    assert f"stages/{stage}.py" in found
    assert [path for path in FORBIDDEN[stage] if path in found] == []
    assert all((ROOT / path).is_file() for path in FORBIDDEN[stage])


def test_a_filter_with_a_model_depends_on_the_code_that_asks_it(imports):
    def code(name):
        (module,) = model_modules({"steps": [{name: {}}]})
        return {path.as_posix() for path in imported(Path(f"ladder/filters/{module}.py"), imports)}

    asks = {
        name: {path for path in (DECODER, JUDGE, CLIENT, CHECKPOINT) if path in code(name)} for name in MODEL_FILTERS
    }
    assert asks == {
        **dict.fromkeys(("judged", "guarded"), {DECODER, JUDGE, CLIENT, CHECKPOINT}),
        **dict.fromkeys(("perplexity", "rewarded", "token_length"), {CHECKPOINT}),
        **dict.fromkeys(("semantic_duplicates", "k_center", "paraphrased"), {CHECKPOINT}),
        **dict.fromkeys(("language", "profanity", "personal", "redact"), set()),
    }
    assert model_modules({"steps": [{"exact": None}, {"length": {"min": 1, "max": 2}}]}) == []
    assert model_modules(None) == model_modules({"steps": 1}) == model_modules({"steps": ["exact"]}) == []


def test_every_model_filter_is_found_by_its_name():
    from ladder.filters.steps import Step

    for name in MODEL_FILTERS:
        assert Step(name, name, {}).function.__name__ == name
