"""Texts without the secrets of URLs."""

from __future__ import annotations

import pytest

from wsi_deform.redact import redacted, redacted_data, redacted_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://host/a.svs", "https://host/a.svs"),
        ("https://host:8080/a%20b/a.svs", "https://host:8080/a%20b/a.svs"),
        ("https://me:5ec@host/a:/b.svs", "https://host/a:/b.svs"),
        ("https://me:pass-word@host:80/a.svs?X-Amz-Signature=5ec#5ec", "https://host:80/a.svs"),
        ("https://t0ken@host/a.svs", "https://host/a.svs"),
        ("https://me:p@ss@host/a.svs", "https://host/a.svs"),
        ("https://me:p#ss@host/a.svs", "https://host/a.svs"),
        ("https://me:p?ss@host/a.svs", "https://host/a.svs"),
        ("https://me:p/ss@host/a.svs", "https://host/a.svs"),
        ("https://me:p::ss@host/a.svs", "https://host/a.svs"),
        ("https://host?mail=a@b", "https://host"),
        ("s3://bucket/folder/a@b.svs", "s3://bucket/folder/a@b.svs"),
        ("https://host/a@b.svs?sig=x", "https://host/a@b.svs"),
        ("simplecache::https://me:5ec@host/a.tif?sig=5ec", "simplecache::https://host/a.tif"),
        ("zip://a.tif::https://me:5ec@host/b.zip?sig=5ec", "zip://a.tif::https://host/b.zip"),
        ("https://host/a.tif?x=5ec::5ec", "https://host/a.tif"),
        ("https:/me:5ec@host/a.tif?sig=5ec", "https:/host/a.tif"),
    ],
)
def test_a_url_keeps_its_place_and_loses_its_secrets(url: str, shown: str) -> None:
    assert redacted_url(url) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no URL: C:/a?b, x::y, 3:/4", "no URL: C:/a?b, x::y, 3:/4"),
        ("slide https://u:5ec@h/a.svs?s=5ec: gone.", "slide https://h/a.svs: gone."),
        ("(https://h/a.svs?s=5ec). Next", "(https://h/a.svs). Next"),
        (
            "404, message='Not Found', url='https://u:5ec@h/a?s=5ec'",
            "404, message='Not Found', url='https://h/a'",
        ),
        ("--slides=https://u:5ec@h/a", "--slides=https://h/a"),
        ("/data/https:/u:5ec@h/a.svs?sig=5ec", "/data/https:/h/a.svs"),
        ("file a.svs?X-Amz-Signature=5ec&sig=5ec is", "file a.svs?X-Amz-Signature=...&sig=... is"),
        ("tls://me:5ec@scheduler:8786", "tls://scheduler:8786"),
    ],
)
def test_urls_in_a_text_lose_their_secrets_and_the_rest_stays(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_parts_of_a_known_url_are_hidden_where_they_stand_alone() -> None:
    url = "https://me:pass%20word@host/a.svs?sig=0123abc&x=1"
    said = redacted("port 'pass word@host', signature 0123abc, user me", url)
    assert said == "port '...@host', signature ..., user me"


def test_data_is_redacted_at_any_depth() -> None:
    data = {"command": ["segment", "https://u:5ec@h/a"], "seed": 3, "more": {"error": "ftp://u:5ec@h"}}
    assert redacted_data(data) == {
        "command": ["segment", "https://h/a"],
        "seed": 3,
        "more": {"error": "ftp://h"},
    }


@pytest.mark.parametrize(
    ("url", "text", "shown"),
    [
        ("https://abc@host/a", "abc", "..."),  # three letters or more; two are in every text
        ("https://ab@host/a", "ab", "ab"),
        ("https://me:123@host/a", "123 me", "... me"),
        ("https://me:p/s@ss@host/a", "p/s@ss", "p/..."),
        ("https://me:pass/word@host/a", "me:pass, pass, word", "me:..., ..., ..."),
        ("https://me:abcdef@host/?x=abc", "abcdef", "..."),
        ("https://host/a@b.svs", "a@b", "a@b"),
        ("https://host/a#part", "part", "..."),
        (
            "https://host/a?sig=0123&x=4567#part",
            "0123 4567 part sig=0123&x=4567",
            "... ... ... sig=...&x=...",
        ),
        ("zip://a::https://me:5ecret@host/b", "5ecret", "..."),
        ("zip://a::https://me:5ec@host/b", "zip a host b", "zip a host b"),
    ],
)
def test_of_a_known_url_its_secrets_alone_are_hidden(url: str, text: str, shown: str) -> None:
    assert redacted(text, url) == shown


def test_a_port_is_no_password() -> None:
    assert redacted("port 8080 of host", "https://host:8080/folder/a.svs") == "port 8080 of host"
