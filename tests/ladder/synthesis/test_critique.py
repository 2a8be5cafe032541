from pathlib import Path

import pytest
import torch

from conftest import ROOT, assistant, user
from endpoints import Said, serving
from ladder.chat.encode import encode
from ladder.data.prompt_templates import fenced, fill
from ladder.inference.endpoint import Endpoint
from ladder.judges.judge import Judging, load_judge
from ladder.models.checkpoint import load_reward, save_rung
from ladder.models.heads import scoring
from ladder.pipeline.stage import UserError
from ladder.synthesis.critique import (
    ASPECTS,
    GAPS,
    aspects,
    compared,
    parse_grade,
    read_templates,
    request,
    reward_scores,
)
from perf.pico import pico_model, pico_tokenizer

pytestmark = pytest.mark.usefixtures("work")

TEMPLATES = ROOT / "prompts" / "preferences"
RATINGS = {"how well an answer follows": "5", "how true": "4", "how honest": "3", "how helpful": "2"}


def judge_of(server, model="big"):
    return load_judge(Judging(endpoint=Endpoint(base_url=server.base_url, model=model)), Path("none"), Path("none"))


def row(text, prompt="Say it.", finished=True):
    return {"id": "a", "prompt": user(prompt), "completion": assistant(text), "finished": finished}


def test_the_four_aspects_are_graded_with_their_reasons_and_the_score_is_their_mean():
    def graded(asked, _):
        (rating,) = [mark for start, mark in RATINGS.items() if f"Grade {start}" in asked["messages"][0]["content"]]
        return Said(f"Because of {rating}.\nRating: [[{rating}]]")

    templates = read_templates(TEMPLATES, ASPECTS)
    with serving(graded) as server:
        judge = judge_of(server)
        (found,) = aspects(judge, [row("It.")], templates)
        assert len(server.asked) == 4
        said = {one["messages"][0]["content"] for one in server.asked}
    assert found == {
        "score": 3.5,
        "aspects": {
            name: {"rating": float(rating), "rationale": f"Because of {rating}."}
            for name, rating in zip(ASPECTS, RATINGS.values(), strict=True)
        },
    }
    wanted = {fill(text, {"request": "Say it.", "answer": fenced("It.")}) for text in templates.values()}
    assert said == wanted
    assert judge.record(*templates.values())["asked"] == 4


def test_an_answer_without_a_grade_for_one_aspect_has_no_score():
    def graded(asked, _):
        return Said("I cannot say." if "how true" in asked["messages"][0]["content"] else "Rating: [[5]]")

    with serving(graded) as server:
        judge = judge_of(server)
        assert aspects(judge, [row("It.")], read_templates(TEMPLATES, ASPECTS)) == [None]
        assert judge.unparseable == 1


def test_a_grade_is_one_to_five_with_its_reasons_before():
    grade = parse_grade("It is right.\n\nRating: [[4]]")
    assert grade is not None
    assert (grade.rating, grade.rationale) == (4.0, "It is right.")
    assert [parse_grade(text) for text in ("Rating: [[6]]", "[[0]]", "4", "[[2]] or [[3]]")] == [None] * 4


def test_only_what_wins_in_both_orders_is_preferred():
    def likes_good(asked, _):
        text = asked["messages"][0]["content"]
        return Said("[[A]]" if text.index("is good") < text.index("is bad") else "[[B]]")

    contests = [(row("It is good."), row("It is bad.")), (row("It is bad."), row("It is good."))]
    template = read_templates(TEMPLATES, ("pairwise",))["pairwise"]
    with serving(likes_good) as server:
        assert compared(judge_of(server), contests, template) == ["one", "two"]
        assert len(server.asked) == 2  # the second contest is the first one reversed: already in the cache
    with serving(lambda *_: Said("[[A]]")) as server:  # always prefers the first answer
        assert compared(judge_of(server, "first"), contests[:1], template) == ["tie"]
    with serving(lambda *_: Said("Both have their merits.")) as server:
        assert compared(judge_of(server, "undecided"), contests[:1], template) == [None]


def test_a_rung_in_this_process_grades_and_compares_too(base):
    judge = load_judge(Judging(), base, base)
    templates = read_templates(TEMPLATES, ASPECTS)
    (found,) = aspects(judge, [row("It.")], templates)
    assert found is not None
    assert 1 < found["score"] < 5
    assert [grade["rationale"] for grade in found["aspects"].values()] == [None] * 4
    (side,) = compared(judge, [(row("It."), row("That."))], read_templates(TEMPLATES, ("pairwise",))["pairwise"])
    assert side in ("one", "two", "tie")


def test_a_reward_is_of_the_whole_conversation_and_of_its_end(tmp_path):
    tokenizer = pico_tokenizer()
    scorer = scoring(pico_model(tokenizer), tokenizer)
    torch.nn.init.normal_(scorer.score.weight, generator=torch.Generator().manual_seed(0))
    save_rung(tmp_path / "reward", scorer, tokenizer, rung="reward/a", method="reward")
    model = load_reward(tmp_path / "reward", tmp_path / "reward", dtype=torch.float32)
    ids, _ = encode(tokenizer, [*user("Say it."), *assistant("It.")])
    expected = [float(model.model(torch.tensor([part])).logits.detach()) for part in (ids, ids[:-1])]
    found = reward_scores(model, [row("It."), row("It.", finished=False)])
    assert found == pytest.approx(expected, abs=1e-4)
    assert abs(found[0] - found[1]) > 1e-3


def test_several_turns_are_distinguished():
    turns = [*user("Hi"), *assistant("Hello"), *user("Say it.")]
    assert request(turns) == "user: Hi\n\nassistant: Hello\n\nuser: Say it."
    assert request(user("Say it.")) == "Say it."


def test_the_templates_have_their_gaps_and_a_wrong_one_is_named(tmp_path):
    assert set(GAPS) == {path.stem for path in TEMPLATES.glob("*.txt")}
    assert set(read_templates(TEMPLATES, tuple(GAPS))) == set(GAPS)
    (tmp_path / "honesty.txt").write_text("Grade {answer}.")
    with pytest.raises(UserError, match="honesty.txt: missing {request}; expected the fields {answer}"):
        read_templates(tmp_path, ("honesty",))
    with pytest.raises(UserError, match="pairwise.txt: no such file"):
        read_templates(tmp_path, ("pairwise",))
