"""Texts without the secrets of URLs: what is shown and what is stored never holds a password or a signature."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

HIDDEN = "..."
# One or more links of a chain (``simplecache::https://...``); ``Path`` makes one slash of two.
_URL = re.compile(r"""(?:[A-Za-z][A-Za-z0-9+.-]+::)*[A-Za-z][A-Za-z0-9+.-]+:/{1,3}[^\s"'`<>\\]+""")
_BETWEEN_LINKS = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]+(?:::|:/))")
# Queries that lost their URL on the way into a message.
_PARAMETER = re.compile(
    r"(?<![A-Za-z0-9])((?:X-(?:Amz|Goog)-[A-Za-z-]+|AWSAccessKeyId|Key-Pair-Id|Policy|sig|signature|"
    r"(?:access_|auth_|id_|session_)?token|password|passwd|secret|api_?key)=)[^&\s\"'`<>\\]+",
    re.IGNORECASE,
)
_CLOSING = ").,;:]}"
_MIN_SECRET = 3


def redacted(text: str, *urls: str) -> str:
    """A text whose URLs have lost their passwords, and what follows ``?`` or ``#``, which may be a signature.

    Args:
        text: A message, a traceback, an argument of the command line.
        urls: URLs whose parts may stand in the text by themselves, as some packages' messages have them.

    Returns:
        The text; the places that the URLs name can still be read.
    """
    shown = _URL.sub(lambda found: _shown(found[0]), text)
    shown = _PARAMETER.sub(rf"\g<1>{HIDDEN}", shown)
    for secret in sorted({secret for url in urls for secret in _secrets(url)}, key=len, reverse=True):
        shown = shown.replace(secret, HIDDEN)
    return shown


def redacted_url(url: str) -> str:
    """The URL, all of the text, without passwords, queries and fragments."""
    links = []
    for link in _BETWEEN_LINKS.split(url):
        scheme, *following = re.split("(:/{1,3})", link, maxsplit=1)
        links.append(scheme + (following[0] + _place(following[1]) if following else ""))
    return "::".join(links)


def redacted_data(data: Any) -> Any:
    """Plain data, such as JSON holds, with every text redacted."""
    if isinstance(data, str):
        return redacted(data)
    if isinstance(data, Mapping):
        return {name: redacted_data(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [redacted_data(value) for value in data]
    return data


def _shown(found: str) -> str:
    """A URL inside a sentence, whose full stop is not the URL's."""
    sentence = found[len(found.rstrip(_CLOSING)) :]
    return redacted_url(found[: len(found) - len(sentence)]) + sentence


def _place(rest: str) -> str:
    """Host and path of what follows ``scheme://``."""
    host, slash, path = rest.partition("/")
    before_at, at, after_at = host.rpartition("@")
    if at and ":" not in before_at and re.search("[?#]", before_at):
        pass  # host?mail=a@b: the query's
    elif at:
        host = after_at
    elif "@" in path and re.search(r":.*\D", host):
        # A password with a slash that its owner forgot to quote: no port has letters.
        host, slash, path = path.rpartition("@")[2].partition("/")
    return re.split("[?#]", host + slash + path, maxsplit=1)[0]


def _secrets(url: str) -> set[str]:
    """Parts of a URL that must not be shown, as written and unquoted."""
    parts: set[str] = set()
    for link in _BETWEEN_LINKS.split(url):
        rest = link.partition("://")[2] or link
        host, _, path = rest.partition("/")
        for credentials in (host.rpartition("@")[0], path.rpartition("@")[0] if ":" in host else ""):
            user, _, password = credentials.partition(":")
            parts |= {credentials, password or user}
        if ":" in host and "@" in path:
            parts.add(host.partition(":")[2])
        query, _, fragment = rest.partition("?")[2].partition("#")
        parts |= {query, fragment, rest.partition("#")[2], *(value for _, value in parse_qsl(query))}
    parts |= {unquote(part) for part in parts}
    return {part for part in parts if len(part) >= _MIN_SECRET}
