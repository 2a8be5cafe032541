import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ladder import ifeval, statistics
from ladder.rows import Row, read_rows
from ladder.run import Refused

ROOT = Path(__file__).parents[2]
GPT4 = ROOT.parent / "shared" / "data" / "ifeval" / "gpt4_20231107_responses.jsonl.gz"

WORDS = [letter * 4 for letter in "abcdefghijklmnopqrstuvwxyz"]


def task(key: int, **instructions: Row) -> Row:
    """A benchmark row; instructions: family__name=its arguments."""
    names = [name.replace("__", ":") for name in instructions]
    return {
        "key": key,
        "prompt": f"prompt {key}",
        "instruction_id_list": names,
        "kwargs": list(instructions.values()),
    }


ROWS = [
    task(
        1,
        punctuation__no_comma={},
        length_constraints__number_words={"relation": "at least", "num_words": 3, "num_highlights": None},
    ),
    task(2, detectable_format__json_format={}),
    task(3, keywords__letter_frequency={"letter": "#", "let_frequency": 4, "let_relation": "at least"}),
    task(4, language__response_language={"language": "fi"}),
]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """NLTK data without sentences' statistics: enough where no instruction counts sentences."""
    (tmp_path / "tokenizers" / "punkt_tab" / "english").mkdir(parents=True)
    return tmp_path


def test_strict_and_loose_by_hand(empty: Path) -> None:
    answers = [
        {"key": 2, "response": 'Sure! Here it is:\n{"a": 1}'},  # loose drops the first line
        {"key": 1, "response": "One, two"},
        {"key": 4, "response": " "},  # an empty answer follows nothing
    ]
    assert ifeval.score(ROWS, answers, empty) == [
        {"key": 2, "instruction_id_list": ["detectable_format:json_format"], "strict": [False], "loose": [True]},
        {
            "key": 1,
            "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
            "strict": [False, False],
            "loose": [False, False],
        },
        {"key": 4, "instruction_id_list": ["language:response_language"], "strict": [False], "loose": [False]},
    ]


def test_a_score_depends_on_its_own_prompt_alone(empty: Path) -> None:
    # Key 3 counts a letter drawn at random: an order of answers would show.
    answers = [{"key": 3, "response": text} for text in WORDS]
    together = ifeval.score(ROWS, answers, empty)
    backwards = ifeval.score(ROWS, answers[::-1], empty)[::-1]
    alone = [ifeval.score(ROWS, [answer], empty)[0] for answer in answers]
    assert together == backwards == alone
    assert sum(score["strict"][0] for score in together) == 1


def test_language_detection_is_repeatable(empty: Path) -> None:
    # Unseeded, langdetect calls this Finnish in 41 of 60 tries and Polish in 19.
    scores = ifeval.score(ROWS, [{"key": 4, "response": "Otec matka syn."}] * 30, empty)
    assert len({score["strict"][0] for score in scores}) == 1


def test_the_callers_random_numbers_are_left_alone(empty: Path) -> None:
    before = random.getstate()
    ifeval.score(ROWS, [{"key": 3, "response": "text"}], empty)
    assert random.getstate() == before


def test_without_nltk_data_it_refuses_and_downloads_nothing(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="punkt_tab/english"):
        ifeval.score(ROWS, [{"key": 1, "response": "text"}], tmp_path)


def test_scoring_imports_no_torch(empty: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from ladder.ifeval import score\n"
        f"score({ROWS!r}, [{{'key': 2, 'response': '1'}}], Path({str(empty)!r}))\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0


def test_outcomes_count_prompts_and_instructions() -> None:
    scores: list[Row] = [{"strict": [True, False]}, {"strict": [True]}]
    passed, asked = ifeval.outcomes(scores, "strict")
    assert passed.tolist() == [[0, 1], [1, 1]]
    assert asked.tolist() == [[1, 1], [2, 1]]


@pytest.mark.real
@pytest.mark.skipif(not GPT4.is_file(), reason="needs GPT-4's published responses in ../shared/data/ifeval")
def test_gpt4_scores_as_published(ifeval_files: tuple[Path, Path]) -> None:
    # Zhou et al. 2023: strict 76.89 and 83.57, loose 79.30 and 85.37; lm-eval's loose check passes one answer more.
    # One prompt was worded otherwise in the published responses, so they are matched by position.
    task, punkt = ifeval_files
    rows = read_rows(task)
    with gzip.open(GPT4, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["response"] for line in lines]
    answers = [{"key": row["key"], "response": text} for row, text in zip(rows, texts, strict=True)]
    scores = ifeval.score(rows, answers, punkt)
    found = {}
    for kind in ("strict", "loose"):
        passed, asked = ifeval.outcomes(scores, kind)
        found[kind] = [round(100 * statistics.ratio(passed[level], asked[level]), 2) for level in (0, 1)]
    assert found == {"strict": [76.89, 83.57], "loose": [79.48, 85.49]}
