import shutil
from pathlib import Path

import pytest
import torch

from ladder.data.jsonl import Row, write_rows
from ladder.eval.lm_harness import Harness, evaluate
from ladder.eval.scores import Resampling, summary
from ladder.models.checkpoint import Model, load
from ladder.pipeline.stage import UserError, fit

CHOICES = ["red", "blue", "a long green"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A task that lm-eval does not contain, next to the data of one that it does."""
    folder = tmp_path_factory.mktemp("tasks")
    rows = [
        {"question": f"Which is {n}?", "choices": {"text": CHOICES, "label": list("ABC")}, "answerKey": "ABC"[n % 3]}
        for n in range(7)
    ]
    write_rows(folder / "arc.jsonl", rows)
    write_rows(folder / "texts.jsonl", [{"text": "One two three."}])
    (folder / "rated.yaml").write_text(
        "task: rated\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {folder / 'texts.jsonl'}}}}}\n"
        "output_type: loglikelihood_rolling\ntest_split: test\ndoc_to_text: ''\ndoc_to_target: '{{text}}'\n"
        "metric_list: [{metric: word_perplexity}]\n"
    )
    return folder


@pytest.fixture(autouse=True)
def datasets_here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def model(base: Path) -> Model:
    return load(base, base, dtype=torch.float32)


def arc(folder: Path, **options: object) -> Harness:
    data: Row = {split: str(folder / "arc.jsonl") for split in ("train", "validation", "test")}
    config: Row = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": data}}
    return Harness(config=config, options=dict(options), include_path=folder)


def likelihood(model: Model, context: str, choice: str) -> float:
    """log p(choice | context), token by token: lm-eval's ranking score, computed without lm-eval."""
    start = len(model.tokenizer(context)["input_ids"])
    ids = torch.tensor([model.tokenizer(context + choice)["input_ids"]])
    with torch.no_grad():
        logits = model.model(ids).logits.log_softmax(-1)
    return float(sum(logits[0, place - 1, ids[0, place]] for place in range(start, ids.shape[1])))


def test_a_shipped_task_on_local_data(folder: Path, model: Model) -> None:
    found, rows, reported, documents = evaluate(model, "arc_easy", arc(folder))
    assert [row["key"] for row in rows] == [f"arc_easy/{number}" for number in range(documents)]
    for number, row in enumerate(rows):
        prompt = f"Question: Which is {number}?\nAnswer:"
        rated = [likelihood(model, prompt, f" {choice}") for choice in CHOICES]
        normalized = [value / len(choice) for value, choice in zip(rated, CHOICES, strict=True)]
        assert row["prompt"] == prompt
        assert row["responses"] == [[CHOICES[rated.index(max(rated))]]]
        assert row["metrics"] == {
            "acc,none": float(rated.index(max(rated)) == number % 3),
            "acc_norm,none": float(normalized.index(max(normalized)) == number % 3),
        }
    assert (found.headline, list(found.measures)) == (("acc,none",), ["acc,none", "acc_norm,none"])
    numbers = summary(found, rows, Resampling())
    assert {name: round(100 * value, 2) for name, value in reported.items()} == {
        name: numbers[name] for name in reported
    }


def test_options_are_lm_evals_own(folder: Path, model: Model) -> None:
    _, rows, _, documents = evaluate(model, "arc_easy", arc(folder, limit=2, num_fewshot=1))
    assert (len(rows), documents) == (2, 7)
    assert rows[0]["prompt"].count("Question:") == 2


def test_a_metric_that_is_no_mean_is_no_measure(folder: Path, model: Model) -> None:
    with pytest.raises(UserError, match="lm-eval task rated: none of word_perplexity,none is a mean over documents"):
        evaluate(model, "rated", Harness(include_path=folder))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("arc_eesy", r"no task 'arc_eesy'; closest names: .*arc_easy"),
        ("ai2_arc", "'ai2_arc': a tag has no score"),
        ("humaneval", "humaneval runs a model's code with your rights"),
        ("hellaswag", r"hellaswag: revisions.Rowan/hellaswag: expected a commit of 40 hex digits, .*, got None\. "),
        ("mmlu_anatomy", r"mmlu_anatomy: revisions.cais/mmlu: expected a commit of 40 hex digits"),
        ("mmlu_stem", r"mmlu_stem: revisions.cais/mmlu: expected a commit of 40 hex digits"),
    ],
)
def test_what_cannot_be_run_is_refused(folder: Path, model: Model, task: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        evaluate(model, task, Harness(include_path=folder))


@pytest.mark.parametrize("revision", ["main", "3f", 40 * "G", ""])
def test_a_revision_that_may_move_is_refused(folder: Path, model: Model, revision: str) -> None:
    for pinned in (
        {"revisions": {"Rowan/hellaswag": revision}},
        {"config": {"dataset_kwargs": {"revision": revision}}},
    ):
        with pytest.raises(UserError, match="revisions.Rowan/hellaswag: expected a commit of 40 hex digits"):
            evaluate(model, "hellaswag", Harness(include_path=folder, **pinned))


@pytest.mark.parametrize("name", ["hellaswag", "mmlu_stem"])
def test_a_pinned_task_gets_as_far_as_the_hub(folder: Path, model: Model, name: str) -> None:
    revisions = {"Rowan/hellaswag": 40 * "0", "cais/mmlu": 40 * "0"}
    with pytest.raises(UserError, match=f"lm-eval task {name}: cannot load its data: .*config"):
        evaluate(model, name, Harness(include_path=folder, revisions=revisions))


def test_a_file_of_an_address_is_no_local_data(folder: Path, model: Model) -> None:
    config: Row = {"dataset_path": "json", "dataset_name": None}
    config["dataset_kwargs"] = {"data_files": {"test": "https://localhost/arc.jsonl"}}
    with pytest.raises(UserError, match="arc_easy: dataset_kwargs.data_files: expected local files, got .*https"):
        evaluate(model, "arc_easy", Harness(include_path=folder, config=config))


def test_a_metric_of_the_hub_is_refused(folder: Path, model: Model, tmp_path: Path) -> None:
    """lm-eval would download code of this name from the hub and run it."""
    folder = shutil.copytree(folder, tmp_path / "tasks")  # lm-eval reads a folder of tasks once
    (folder / "foreign.yaml").write_text(
        "include: rated.yaml\ntask: foreign\nmetric_list: [{metric: some-org/metric, hf_evaluate: true, "
        "aggregation: mean, higher_is_better: true}]\n"
    )
    with pytest.raises(UserError, match="foreign: metric 'some-org/metric' is code from the hub, which never runs"):
        evaluate(model, "foreign", Harness(include_path=folder))


def test_the_guard_is_gone_afterwards(folder: Path, model: Model) -> None:
    import datasets
    import evaluate as metrics

    read, load_metric = datasets.load_dataset, metrics.load
    with pytest.raises(UserError):
        evaluate(model, "hellaswag", Harness(include_path=folder))
    assert (datasets.load_dataset, metrics.load) == (read, load_metric)


def test_a_group_has_no_config_to_replace(folder: Path, model: Model) -> None:
    with pytest.raises(UserError, match="mmlu: `config` replaces keys of a single task"):
        evaluate(model, "mmlu", Harness(include_path=folder, config={"dataset_path": "json"}))


@pytest.mark.parametrize("name", ["fewshot", "model", "confirm_run_unsafe_code"])
def test_an_option_that_is_not_open_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"lm_eval.arc.options: expected arguments of .*, got {name}"):
        fit(Harness, {"options": {name: True}}, "lm_eval.arc")
