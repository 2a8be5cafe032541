"""The key of an endpoint: from which variable, to which host, and that it appears nowhere in output."""

from pathlib import Path
from typing import Any

import pytest

from conftest import user
from endpoints import Said, Server, serving
from ladder.inference.api_keys import checked, key_of
from ladder.inference.client import Client, Request
from ladder.inference.endpoint import UNBOUNDED, Endpoint
from ladder.pipeline.stage import UserError, fit

KEY = "sk-very-secret-0123456789"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADDER_WORK", str(tmp_path / "work"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(server: Server, prompt: str = "a", **changed: Any) -> None:
    settings: dict[str, Any] = {"model": "big", "retries": 0, "max_failed": 1.0, **changed}
    Client(Endpoint(base_url=server.base_url, **settings), UNBOUNDED).ask([Request(user(prompt))], progress="")


def test_each_server_sees_its_own_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "FIRST_KEY", "SECOND_KEY"):
        monkeypatch.setenv(name, f"key-of-{name}")
    with serving(lambda *_: Said()) as first, serving(lambda *_: Said()) as second, serving(lambda *_: Said()) as third:
        ask(first, key_env="FIRST_KEY")
        ask(second, key_env="SECOND_KEY", model="other")
        ask(third, model="third")
        assert (first.keys, second.keys) == (["Bearer key-of-FIRST_KEY"], ["Bearer key-of-SECOND_KEY"])
        assert third.keys == ["Bearer key-of-OPENAI_API_KEY"]  # on this machine


def test_a_server_on_this_machine_needs_no_key() -> None:
    with serving(lambda *_: Said()) as server:
        ask(server)
        assert server.keys == [None]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_with_a_key_or_a_prompt(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", KEY)
    with serving(lambda *_: Said()) as other:
        place = f"{other.base_url}/chat/completions"
        with serving(lambda *_: Said(body=b"{}", status=status, headers={"Location": place})) as server:
            with pytest.raises(UserError, match=f"answered {status}: redirects to {place}; expected an answer"):
                ask(server, key_env="FIRST_KEY")
            assert server.keys == [f"Bearer {KEY}"]
        assert other.asked == []


def test_a_server_on_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda *_: Said()) as proxy, serving(lambda *_: Said()) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.base_url.removesuffix("/v1"))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        ask(server)
        assert (len(server.asked), len(proxy.asked)) == (1, 0)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://eu.api.openai.com/v1", "OPENAI_API_KEY"),
        ("https://api.openai.com.evil.org/v1", None),
        ("https://evil-api.openai.com.org/v1", None),
        ("https://openrouter.ai/api/v1", None),
        ("http://localhost:8000/v1", "OPENAI_API_KEY"),
        ("http://127.3.2.1:8000/v1", "OPENAI_API_KEY"),
        ("http://[::1]:8000/v1", "OPENAI_API_KEY"),
    ],
)
def test_the_default_key_is_for_openai_and_this_machine(address: str, name: str | None) -> None:
    assert Endpoint(base_url=address, model="m").key_name == name
    assert Endpoint(base_url=address, model="m", key_env="OTHER").key_name == "OTHER"


@pytest.mark.parametrize("odd", [f"{KEY}\n", f"{KEY}\r\n", f" {KEY}\t", f"\ufeff{KEY}", f"{KEY}\u00a0\x00"])
def test_blanks_and_line_ends_around_a_key_are_stripped(odd: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"OPENAI_API_KEY": odd, "LADDER_WORK": str(Path.cwd())})
    endpoint = Endpoint(base_url="http://localhost/v1", model="m")
    assert checked(key_of(endpoint), endpoint).header() == {"Authorization": f"Bearer {KEY}"}


def test_a_key_with_a_line_end_is_sent_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\r\n")
    with serving(lambda *_: Said()) as server:
        ask(server)
        assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(
    ("odd", "said"),
    [
        ("sk-sécret-0123456789", "a character beyond ASCII at character 5 of 20"),
        ("sk-secret\n-0123456789", "a blank at character 10 of 21"),
        ("sk-secret\x07-0123456789", "a control character at character 10 of 21"),
        ("Bearer sk-secret-0123456789", "a blank at character 7 of 27"),
        ("sk-secret\u200b-0123456789", "a character beyond ASCII at character 10 of 21"),
        ("'sk-secret-0123456789'", "the key is quoted"),
    ],
)
def test_what_no_key_holds_is_refused_before_anything_is_sent(
    odd: str, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FIRST_KEY", odd)
    with serving(lambda *_: Said()) as server:
        with pytest.raises(UserError, match=f"environment variable FIRST_KEY: {said}") as refused:
            ask(server, key_env="FIRST_KEY")
        assert server.asked == []
    assert not any("0123456789" in text for text in (str(refused.value), *capfd.readouterr()))


def test_a_missing_key_is_named_where_one_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_KEY", " \n")
    for changed, said in [
        ({"key_env": "NO_SUCH_KEY"}, "environment variable NO_SUCH_KEY: unset or empty; expected the key of http"),
        ({"key_env": "EMPTY_KEY"}, "environment variable EMPTY_KEY: unset or empty"),
    ]:
        with serving(lambda *_: Said()) as server, pytest.raises(UserError, match=said):
            ask(server, **changed)
    openai = Endpoint(base_url="https://api.openai.com/v1", model="m")
    with pytest.raises(UserError, match="environment variable OPENAI_API_KEY: unset or empty"):
        checked(key_of(openai), openai)
    hint = "answered 401: no key; no key was sent. Name its environment variable in endpoint.key_env"
    with serving(lambda *_: Said("no key", status=401)) as server, pytest.raises(UserError, match=hint):
        ask(server)


def test_replies_of_the_store_need_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", KEY)
    with serving(lambda *_: Said()) as server:
        ask(server, key_env="FIRST_KEY")
        monkeypatch.delenv("FIRST_KEY")
        ask(server, key_env="FIRST_KEY")
        assert len(server.asked) == 1


def test_a_key_in_a_server_s_words_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST_KEY", "tok-12345")
    other = "hf_AbCdEfGhIjKlMnOpQrStUvWxYz"
    words = Said(f"tok-12345 is wrong, {other} too", status=401)
    said = "answered 401: <FIRST_KEY> is wrong, <key> too"
    with serving(lambda *_: words) as server, pytest.raises(UserError, match=said):
        ask(server, key_env="FIRST_KEY")


def test_an_endpoint_is_refused_that_would_leak() -> None:
    server = {"base_url": "https://host/v1", "model": "m"}
    for wrong, said in [
        ({"base_url": "http://host/v1"}, "endpoint: base_url: http sends .* unencrypted to host. .*`insecure: true`"),
        ({"base_url": "http://10.0.0.5:8000/v1"}, "unencrypted to 10.0.0.5"),
        ({"base_url": "http://localhost.evil.org/v1"}, "unencrypted to localhost.evil.org"),
        ({"key_env": KEY}, "endpoint.key_env: expected the name of an environment variable"),
        ({"key_env": "hf_AbCdEfGhIjKlMnOpQr"}, "endpoint.key_env: expected the name of an environment variable"),
        ({"extra": {"api_key": "x123456"}}, "endpoint.extra.api_key: a secret"),
        (
            {"extra": {"extra_headers": {"Authorization": f"Bearer {KEY}"}}},
            "endpoint.extra.extra_headers.Authorization",
        ),
        ({"extra": {"user": KEY}}, "endpoint.extra.user: a secret"),
        ({"model": KEY}, "endpoint.*: model: a secret"),
        ({"base_url": f"https://host/{KEY}/v1"}, "endpoint.base_url: has a user, password, query or key"),
        ({"base_url": "https://host:port/v1"}, "endpoint.base_url: not an address"),
        ({"base_url": "localhost:8000/v1"}, "endpoint.base_url: expected http://HOST/v1"),
        ({"base_url": "https://host/v1/chat/completions"}, "expected the address before /chat/completions"),
        ({"extra": {"day": float("nan")}}, "endpoint.extra: expected JSON values"),
    ]:
        with pytest.raises(UserError, match=said) as refused:
            fit(Endpoint, {**server, **wrong}, "endpoint")
        assert not any(part in str(refused.value) for part in ("0123456789", "AbCdEf", "x123456"))
    assert fit(Endpoint, {**server, "base_url": "http://host/v1", "insecure": True}, "endpoint").insecure


def test_the_key_and_the_word_for_http_are_no_part_of_what_is_recorded() -> None:
    plain = Endpoint(base_url="https://host/v1", model="m")
    named = Endpoint(base_url="https://host/v1", model="m", key_env="FIRST_KEY", insecure=True)
    assert plain.model_dump() == named.model_dump()
    assert plain != named
