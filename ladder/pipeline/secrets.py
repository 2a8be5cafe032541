"""Detect secrets: parameter names that hold one, and values in the formats of known API keys."""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

NAMES = frozenset(
    (
        *("token", "apikey", "apitoken", "hubtoken", "accesstoken", "authtoken", "bearertoken", "hftoken"),
        *("refreshtoken", "idtoken", "sessiontoken", "authorization", "password", "passwd", "passphrase"),
        *("secret", "secretkey", "clientsecret", "credential", "credentials", "privatekey", "accesskey"),
        *("accesskeyid", "secretaccesskey", "xapikey", "xgoogapikey", "subscriptionkey"),
    )
)
"""Names of parameters that hold a secret, in lower case without separators."""
ENDINGS = (
    *("apikey", "apitoken", "hubtoken", "hftoken", "accesstoken", "authtoken", "secretkey", "accesskey"),
    *("password", "clientsecret", "privatekey", "subscriptionkey", "secretaccesskey", "passphrase", "credentials"),
    *("accountkey", "keysecret", "sastoken", "connectionstring"),
)
"""Suffixes of further secret names: WANDB_API_KEY, push_to_hub_token."""
PREFIXES = (
    "sk-|sk_live_|sk_test_|rk_live_|hf_|api_org_|ghp_|gho_|ghs_|ghu_|github_pat_|glpat-|gsk_|xai-|nvapi-|r8_|fw_|csk-|"
    "tgp_v1_|pplx-|dapi|xoxb-|xoxp-|xapp-|pypi-|npm_|dop_v1_|wandb_v1_|AIza|AKIA|ASIA|ya29[.]|esecret_|"
    "ghr_|xoxa-|xoxr-|GOCSPX-|hvs[.]|dckr_pat_|lsv2_pt_|lsv2_sk_|SG[.]|shpat_|tvly-|jina_|sntrys_|rpa_|sess-"
)
"""Prefixes of API keys.

Providers: OpenAI and compatible providers, Hugging Face, GitHub, GitLab, Groq, xAI, NVIDIA, Replicate, Fireworks,
Cerebras, Together, Perplexity, Databricks, Slack, PyPI, npm, Google, AWS, Vault, Docker, LangSmith, SendGrid,
Shopify, Tavily, Jina, Sentry, RunPod.
"""
TOKEN = re.compile(rf"(?<![A-Za-z0-9])(?:{PREFIXES})([A-Za-z0-9_-]+)")
OTHER = re.compile(
    r"\b[Bb]earer\s+[A-Za-z0-9._~+/-]{12,}=*|\b[Aa]uthorization\W{1,6}[Bb]asic\s+[A-Za-z0-9+/]{8,}=*"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----(?:[A-Za-z0-9+/=:,\s\\-]*-----END [A-Z ]*PRIVATE KEY-----|[A-Za-z0-9+/=\s\\]*)"
    r"|\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*:[^\s/@]+@"
    r"|(?<=[?&])[A-Za-z0-9_.-]*(?i:api_?-?key|token|signature|secret|password|credential)s?=[^&\s'\"<>]{6,}"
    r"|(?<=[?&])(?i:sig|key|auth)=[^&\s'\"<>]{16,}"
)
"""Other credentials: Authorization headers, JSON Web Tokens, private keys, and URLs with a password or a key.

A key in a URL's query appears, for example, in presigned URLs of S3 servers.
"""
LONG, SHORT = 16, 6
"""Minimum characters of a key after its prefix: LONG inside a text, SHORT if the value is only the key."""


def holds_secret(text: str) -> bool:
    """Return whether a text is, or contains, a key in a known format."""
    whole = TOKEN.fullmatch(text.strip())
    if whole and len(whole[1]) >= SHORT and _is_mixed(whole[1]):
        return True
    return any(map(_is_key, TOKEN.finditer(text))) or OTHER.search(text) is not None


def masked(text: str) -> str:
    """Replace every key in a known format by `<key>`."""
    return OTHER.sub("<key>", TOKEN.sub(lambda found: "<key>" if _is_key(found) else found[0], text))


def concealed(text: str) -> str:
    """Remove secrets from text shown to users: keys in known formats, and values of environment variables.

    A variable's value is removed if its name is that of a secret and the value has at least LONG characters.
    """
    for name, value in os.environ.items():
        if is_secret_name(name) and len(value.strip()) >= LONG:
            text = text.replace(value.strip(), f"<{name}>")
    return masked(text)


def conceal_tracebacks() -> None:
    """Install an excepthook that prints tracebacks through `concealed`.

    Libraries put keys and URLs into error messages.
    """

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(concealed("".join(traceback.format_exception(kind, error, trace))), end="", file=sys.stderr, flush=True)

    sys.excepthook = hook


def is_secret_name(name: str) -> bool:
    """Return whether a parameter with this name holds a secret. `pad_token` and `max_tokens` do not."""
    bare = re.sub(r"[^a-z0-9]", "", name.lower())
    one = bare.removesuffix("s")
    return bare in NAMES or bare.endswith(ENDINGS) or (one in NAMES and one != "token") or one.endswith(ENDINGS)


def secrets_in(value: Any, path: str = "") -> Iterator[str]:
    """Iterate over the paths of all parameters that hold a secret, by name or value: `sft.chat.trainer.hub_token`.

    Parameters are found at any depth. Null, true and false are never secrets: `token: true` selects the token stored
    on the machine.
    """
    if isinstance(value, dict):
        for name, inner in value.items():
            if holds_secret(str(name)):
                yield f"{path}.<key>" if path else "<key>"
                continue
            below = f"{path}.{name}" if path else str(name)
            if is_secret_name(str(name)) and any(map(_is_value, inner if isinstance(inner, list | tuple) else [inner])):
                yield below
            else:
                yield from secrets_in(inner, below)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from secrets_in(inner, f"{path}.{number}" if path else str(number))
    elif isinstance(value, str) and holds_secret(value):
        yield path


def _is_value(inner: Any) -> bool:
    return isinstance(inner, str | int | float) and not isinstance(inner, bool) and bool(str(inner).strip())


def _is_key(found: re.Match[str]) -> bool:
    tail = found[1]
    return len(tail) >= LONG and (_is_mixed(tail) or tail.isalnum())


def _is_mixed(tail: str) -> bool:
    """Return whether a text looks random: letters with digits, or both upper and lower case."""
    letters = "".join(filter(str.isalpha, tail))
    digits = any(map(str.isdigit, tail))
    return bool(letters) and (digits or (letters != letters.lower() and letters != letters.upper()))
