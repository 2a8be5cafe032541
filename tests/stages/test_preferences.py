import json

import pytest
import torch

from conftest import ROOT, assistant, user
from endpoints import Said, serving
from ladder.data.jsonl import read_rows, write_rows
from ladder.inference.types import Answer
from ladder.models.checkpoint import save_rung
from ladder.models.heads import scoring
from ladder.pipeline.stage import UserError, fit
from ladder.synthesis.rejection_sampling import judged, rates
from perf.pico import pico_model, pico_tokenizer
from stages.preferences import Params, main

TEMPLATES = ROOT / "prompts" / "preferences"
SETTINGS = {
    "prompts": "prompts",
    "model": "base",
    "endpoint": None,
    "split": "preferences",
    "samples": 2,
    "temperature": 1.0,
    "top_p": 1.0,
    "max_new_tokens": 6,
    "seed": 0,
    "edits": True,
    "pairs_per_prompt": 1,
    "ranker": "base",
}


def test_an_edit_is_judged_again_and_marked():
    prompt = {"id": "a", "prompt": user("Say hello."), "checks": [{"kind": "lowercase"}]}
    rows = list(
        judged(
            [prompt],
            [Answer("Hello there. It is fine.", 6, True), Answer("hello, it is a good day.", 8, True)],
            2,
            edits=True,
        )
    )
    assert [(row["sample"], row["edited"], row["passed"], row["completion"][0]["content"]) for row in rows] == [
        (0, False, [False], "Hello there. It is fine."),
        (0, True, [True], "hello there. it is fine."),
        (1, False, [True], "hello, it is a good day."),
    ]
    assert rates(rows) == {"pass_rate": 50.0, "finish_rate": 100.0}
    unchecked = list(judged([{**prompt, "checks": []}], [Answer("Hello", 1, False)], 1, edits=False))
    assert rates(unchecked) == {"finish_rate": 0.0}
    assert rates(rows + unchecked * 2) == {"pass_rate": 50.0, "finish_rate": 50.0}


def sampled(tmp_path, base, checks, *, reward=None, prompts=3, **settings):
    rows = [
        {"id": str(n), "split": "preferences", "prompt": user(f"Say {n}."), "checks": checks} for n in range(prompts)
    ]
    write_rows(tmp_path / "prompts.jsonl", [*rows, {**rows[0], "split": "sft"}])
    outputs = [tmp_path / name for name in ("pairs.jsonl", "validation.jsonl", "pairs.json")]
    params = fit(Params, {**SETTINGS, **settings}, "preferences.chat")
    main(params, tmp_path / "prompts.jsonl", base, reward or base, base, TEMPLATES, *outputs)
    validation = read_rows(outputs[1]) if outputs[1].stat().st_size else []
    return read_rows(outputs[0]), validation, json.loads(outputs[2].read_text())


def test_a_policys_own_answers_become_pairs(tmp_path, base):
    made, validation, counts = sampled(tmp_path, base, [{"kind": "ends_with", "phrase": "the end."}])
    assert counts["pairs"] == len(made) == 3
    assert validation == []
    assert all(pair["chosen"][0]["content"].endswith("the end.") for pair in made)
    assert list(made[0]) == ["id", "chosen_edited", "rejected_finished", "prompt", "chosen", "rejected"]
    again, *_ = sampled(tmp_path, base, [{"kind": "ends_with", "phrase": "the end."}])
    assert again == made


def test_no_pair_at_all_is_refused(tmp_path, base):
    with pytest.raises(UserError, match="no prompt has both an answer that meets its checks and one that does not"):
        sampled(tmp_path, base, [{"kind": "includes_words", "words": ["x" * 300]}, {"kind": "words_at_most", "n": 0}])


def test_prompts_without_checks_are_not_sampled_to_be_ranked_by_them(tmp_path, base):
    with pytest.raises(UserError, match="prompts.jsonl: no prompt has a check. Set rank: reward, judge or aspects"):
        sampled(tmp_path, tmp_path / "no model", [])


def answers(asked, before):
    """Replies of an endpoint: for each prompt a good and a bad answer, then a mediocre and a bad one."""
    said = ["good one", "bad one", "so so", "really bad one"][before]
    return Said(f"{said} {asked['messages'][0]['content']}")


def test_by_a_reward_model_the_highest_score_is_chosen(tmp_path, base, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    tokenizer = pico_tokenizer()
    scorer = scoring(pico_model(tokenizer), tokenizer)
    torch.nn.init.normal_(scorer.score.weight, generator=torch.Generator().manual_seed(0))
    reward = tmp_path / "reward"
    save_rung(reward, scorer, tokenizer, rung="reward/a", method="reward")
    with serving(answers) as server:
        endpoint = {"base_url": server.base_url, "model": "policy"}
        settings = {"rank": "reward", "ranker": "reward/a", "endpoint": endpoint, "samples": 4, "edits": False}
        made, _, counts = sampled(tmp_path, base, [], reward=reward, pairs_per_prompt=2, **settings)
    of_first = [pair for pair in made if pair["id"] == "0"]
    assert counts["pairs"] == len(made) == 6
    scores = [score for pair in of_first for score in (pair["score_chosen"], pair["score_rejected"])]
    assert scores[0] >= scores[2] >= scores[3] >= scores[1]  # the first pair has the highest and the lowest


def test_by_four_aspects_with_a_margin_and_a_validation_split(tmp_path, base, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))

    def says(asked, before):
        text = asked["messages"][0]["content"]
        if not text.startswith("Grade"):
            return answers(asked, before)
        rating = 4 if "good one" in text else 3 if "so so" in text else 1
        return Said(f"Plain. Rating: [[{rating}]]")

    with serving(says) as server:
        endpoint = {"base_url": server.base_url, "model": "policy"}
        judge = {"endpoint": {**endpoint, "model": "judge"}}
        settings = {"rank": "aspects", "endpoint": endpoint, "judge": judge, "samples": 4, "edits": False, "margin": 2}
        made, validation, counts = sampled(
            tmp_path, base, [], prompts=20, pairs_per_prompt=2, validation=0.25, **settings
        )
    both = made + validation
    assert counts["judge"]["asked"] == 20 * 4 * 4
    assert counts["ungraded"] == 0
    assert {(pair["score_chosen"], pair["score_rejected"]) for pair in both} == {(4.0, 1.0), (3.0, 1.0)}
    assert both[0]["aspects_chosen"]["honesty"] == {"rating": 4.0, "rationale": "Plain."}
    assert len(both) == 40
    assert counts["validation_pairs"] == len(validation) > 0
    assert {pair["id"] for pair in made}.isdisjoint(pair["id"] for pair in validation)


def test_by_a_judge_in_both_orders_ties_are_dropped_and_counted(tmp_path, base, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))

    def says(asked, before):
        text = asked["messages"][0]["content"]
        if not text.startswith("Compare"):
            return answers(asked, before)
        if "Say 1." in text:
            return Said("[[A]]")  # always prefers the first answer: a tie
        if "Say 2." in text:
            return Said("Hard to say.")
        return Said("[[A]]" if text.index("good one") < text.index("bad one") else "[[B]]")

    with serving(says) as server:
        endpoint = {"base_url": server.base_url, "model": "policy"}
        judge = {"endpoint": {**endpoint, "model": "judge"}, "retries": 0}
        settings = {"rank": "judge", "endpoint": endpoint, "judge": judge, "samples": 2, "edits": False}
        made, _, counts = sampled(tmp_path, base, [], prompts=4, **settings)
    assert [pair["chosen"] for pair in made] == [assistant(f"good one Say {n}.") for n in (0, 3)]
    assert (counts["ties"], counts["no_verdict"], counts["judge"]["unparseable"]) == (1, 1, 2)


def test_a_judge_that_prefers_the_first_makes_no_pairs(tmp_path, base, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    with serving(
        lambda asked, n: Said("[[A]]") if "Answer B:" in asked["messages"][0]["content"] else answers(asked, n)
    ) as server:
        endpoint = {"base_url": server.base_url, "model": "policy"}
        judge = {"endpoint": {**endpoint, "model": "judge"}}
        settings = {"rank": "judge", "endpoint": endpoint, "judge": judge, "edits": False}
        with pytest.raises(UserError, match="prefers in both orders, ties: 3, no_verdict: 0, "):
            sampled(tmp_path, base, [], **settings)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"margin": 1.0}, "margin: no effect, because rank: checks gives no scores"),
        ({"rank": "judge", "margin": 1.0}, "margin: no effect, because rank: judge gives no scores"),
        ({"rank": "reward", "judge": {"retries": 5}}, "judge: no effect, because rank: reward asks no judge"),
        ({"budget": {"requests": 5}}, "preferences.chat: "),
        ({"rank": "stars"}, "preferences.chat.rank: "),
        ({"max_longer": 1.5}, "preferences.chat.max_longer: "),
        ({"validation": 1.0}, "preferences.chat.validation: "),
    ],
)
def test_what_does_not_go_together_is_refused(wrong, said):
    with pytest.raises(UserError, match=said):
        fit(Params, {**SETTINGS, **wrong}, "preferences.chat")


def test_a_template_is_looked_at_before_anything_is_sampled(tmp_path, base):
    outputs = [tmp_path / name for name in ("pairs.jsonl", "validation.jsonl", "pairs.json")]
    params = fit(Params, {**SETTINGS, "rank": "judge"}, "preferences.chat")
    with pytest.raises(UserError, match="pairwise.txt: no such file"):
        main(params, tmp_path / "no prompts", base, base, base, tmp_path, *outputs)
