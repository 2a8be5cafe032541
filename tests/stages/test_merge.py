import pytest
import torch

from conftest import pico_model, pico_tokenizer
from ladder.models import load, read_rung, save_rung
from ladder.run import Refused, fit
from stages.merge import Params, main


@pytest.fixture
def second(tmp_path):
    tokenizer = pico_tokenizer()
    model = pico_model(tokenizer, seed=5).to(torch.bfloat16)
    save_rung(tmp_path / "second", model, tokenizer, rung="sft/second", method="sft")
    return tmp_path / "second"


def recipe(weight, **changed):
    models = [
        {"model": "base", "parameters": {"weight": weight}},
        {"model": "sft/second", "parameters": {"weight": 1 - weight}},
    ]
    config = {"merge_method": "linear", "models": models, "dtype": "bfloat16", **changed}
    return {"parents": ["base", "sft/second"], "seed": 0, "config": config}


def test_a_linear_merge_is_the_weighted_mean(tmp_path, base, second):
    output = tmp_path / "merge/soup"
    main(Params(**recipe(0.25)), base, second, base, output, tmp_path / "soup.json")
    merged, one, two = (load(path, base).model.state_dict() for path in (output, base, second))
    for name, weight in merged.items():
        expected = 0.25 * one[name].float() + 0.75 * two[name].float()
        torch.testing.assert_close(weight.float(), expected, atol=1e-2, rtol=8e-3)
    rung = read_rung(output)
    assert (rung.rung, rung.kind) == ("merge/soup", "complete")
    assert rung.parents == {"base": read_rung(base).identity, "sft/second": read_rung(second).identity}


def test_a_merge_of_a_model_that_is_no_parent_is_refused(tmp_path, base, second):
    config = recipe(0.5)
    config["config"]["models"][0]["model"] = "sft/third"
    with pytest.raises(Refused, match=r"merge config names \['sft/third'\]; its parents are \['base', 'sft/second'\]"):
        main(Params(**config), base, second, base, tmp_path / "merge/soup", tmp_path / "soup.json")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"merge_methd": "linear"}, "merge.soup.config: mergekit has no key merge_methd"),
        ({"models": 3}, "merge.soup.config: "),
    ],
)
def test_what_mergekit_does_not_know_is_refused(changed, said):
    with pytest.raises(Refused) as refusal:
        fit(Params, recipe(0.5, **changed), "merge.soup")
    assert said in str(refusal.value)


def test_other_templates_are_refused(tmp_path, base):
    tokenizer = pico_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("\n", " ")
    save_rung(tmp_path / "other", pico_model(tokenizer), tokenizer, rung="sft/second", method="sft")
    with pytest.raises(Refused, match="base and sft/second have different chat templates"):
        main(Params(**recipe(0.5)), base, tmp_path / "other", base, tmp_path / "merge/soup", tmp_path / "soup.json")
