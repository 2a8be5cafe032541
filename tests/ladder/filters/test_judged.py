import pytest
import torch

from conftest import ROOT, assistant, user
from endpoints import Said, serving
from ladder.chat.encode import encode
from ladder.filters.judged import judged
from ladder.filters.model_scores import rewarded
from ladder.models.checkpoint import load_reward, save_rung
from ladder.models.heads import scoring
from ladder.pipeline.stage import UserError
from perf.pico import pico_model, pico_tokenizer

ROWS = [
    {"id": "0", "prompt": user("Say a."), "completion": assistant("It is a.")},
    {"id": "1", "messages": user("Say b.") + assistant("B, and so on and on.")},
    {"id": "2", "prompt": user("Say c."), "chosen": assistant("c"), "rejected": assistant("d")},
]


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    """A reward rung with random weights and head."""
    tokenizer = pico_tokenizer()
    model = scoring(pico_model(tokenizer, seed=1), tokenizer)
    torch.nn.init.normal_(model.score.weight)
    directory = tmp_path_factory.mktemp("models") / "reward"
    save_rung(directory, model.to(torch.bfloat16), tokenizer, rung="reward/pico", method="reward")
    return directory


@torch.inference_mode()
def by_hand(directory, messages):
    """The head's value at the last token of the conversation, one row at a time."""
    model = load_reward(directory, directory, dtype=torch.float32)
    ids, _ = encode(model.tokenizer, messages)
    hidden = model.model.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    return float(hidden @ model.model.score.weight[0])


def test_rows_below_the_reward_go(scorer):
    talks = [ROWS[0]["prompt"] + ROWS[0]["completion"], ROWS[1]["messages"], ROWS[2]["prompt"] + ROWS[2]["chosen"]]
    wanted = [by_hand(scorer, messages) for messages in talks]
    reported = rewarded(ROWS, min=1e9, model=scorer, base=scorer)
    assert [float(reason.removeprefix("reward ")) for reason in reported] == pytest.approx(wanted, rel=0.05, abs=0.1)
    low, middle, high = sorted(wanted)
    kept = rewarded(ROWS, min=(middle + high) / 2, model=scorer, base=scorer)
    assert [reason is None for reason in kept] == [value == high for value in wanted]


def test_a_language_model_is_no_reward_model(base):
    with pytest.raises(UserError, match="expected a reward model, .*, got a language model"):
        rewarded(ROWS, min=0, model=base, base=base)


def test_a_judge_of_an_endpoint_grades_by_the_template(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path))
    template = tmp_path / "rate.txt"
    template.write_text("Q: {question}\n{answer}\nGrade it.")

    def grade(asked, _):
        return Said({"a": "Rating: [[8]]", "b": "Rating: [[3]]", "c": "fine"}[asked["messages"][0]["content"][7]])

    with serving(grade) as server:
        judge = {"endpoint": {"base_url": server.base_url, "model": "big", "concurrency": 2, "retries": 0}}
        reported = judged(ROWS, min=7, template="rate", prompts=tmp_path, judge=judge, model=tmp_path, base=tmp_path)
        assert reported == [None, "grade 3.0", "no grade"]
        request = server.asked[0]["messages"][0]["content"]
    assert request.startswith("Q: Say ")
    assert "<<<answer " in request
    with pytest.raises(UserError, match=r"judged\.judge\.nonsense"):
        judged(ROWS, min=7, template="rate", prompts=tmp_path, judge={"nonsense": 1}, model=tmp_path, base=tmp_path)
    template.write_text("{question}")
    with pytest.raises(UserError, match="missing {answer}"):
        judged(ROWS, min=7, template="rate", prompts=tmp_path, judge={}, model=tmp_path, base=tmp_path)


def test_a_judge_of_an_endpoint_writes_json_and_its_reason_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("LADDER_WORK", str(tmp_path))

    def grade(asked, _):
        said = {"a": '{"reason": "Right.", "grade": 8}', "b": '{"reason": "It\\nrambles.", "grade": 3}', "c": "fine"}
        letter = next(one for one in said if f"Say {one}." in asked["messages"][0]["content"])
        assert asked["response_format"]["json_schema"]["schema"]["required"] == ["reason", "grade"]
        return Said(said[letter])

    prompts = ROOT / "prompts" / "quality"
    with serving(grade) as server:
        judge = {"endpoint": {"base_url": server.base_url, "model": "json"}, "retries": 0}
        asked = {"template": "rate_json", "form": "json", "prompts": prompts, "judge": judge}
        reported = judged(ROWS, min=7, **asked, model=tmp_path, base=tmp_path)
        assert reported == [None, "grade 3.0: It rambles.", "no grade"]
        assert len(server.asked) == 3 + 1  # a repair
