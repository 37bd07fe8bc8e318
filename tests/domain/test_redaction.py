"""A secret is found however it is spelled, and nothing else is taken for it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.redaction import MASK, spellings, without

WORDS = ["hunter2", 'p/ss "w+rd"&=?', "grün\\und\tblau", "密码很长的", "ab+/cd=="]
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w\r\n  BKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "spelled",
    [
        str,
        lambda word: f"https://user:{quote(word)}@host/",
        lambda word: f"https://user:{quote(word, safe='').lower() if word.isascii() else quote(word, safe='')}@host/",
        lambda word: urlencode({"a": "b", "password": word}),
        lambda word: f"?p={quote_plus(word)}&x=1",
        lambda word: json.dumps({"password": word}),
        lambda word: json.dumps({"password": word}, ensure_ascii=False),
        lambda word: json.dumps({"body": json.dumps({"password": word})}),
        lambda word: base64.b64encode(word.encode()).decode(),
        lambda word: base64.urlsafe_b64encode(word.encode()).decode(),
    ],
)
def test_it_is_found_in_every_spelling(word: str, spelled: object) -> None:
    text = spelled(word)  # type: ignore[operator]
    shown = without(text, spellings([word]))
    assert MASK in shown
    assert len(shown) < len(text) or len(word) < 8
    for spelling in (word, quote(word, safe=""), quote_plus(word), json.dumps(word)[1:-1]):
        assert spelling not in shown


@given(st.binary(max_size=7), st.sampled_from(WORDS), st.binary(max_size=7))
def test_it_is_found_in_base64_of_more(before: bytes, word: str, after: bytes) -> None:
    """As in `Authorization: Basic`, where a name stands before it."""
    encoded = base64.b64encode(before + word.encode() + after).decode()
    shown = without(encoded, spellings([word]))
    assert MASK in shown
    # What is left of the word is less than a byte at each end.
    assert len(shown) - len(MASK) <= len(encoded) - (8 * len(word.encode()) - 10) // 6


def test_each_line_of_a_key_is_hidden() -> None:
    looked_for = spellings([PEM])
    assert [without(line, looked_for) for line in PEM.splitlines()] == [MASK, MASK, f"  {MASK}", MASK]
    assert without(json.dumps({"key": PEM}), looked_for) == f'{{"key": "{MASK}"}}'


@given(st.text(min_size=4, max_size=40), st.text(max_size=20), st.text(max_size=20))
def test_nothing_of_it_is_left(word: str, before: str, after: str) -> None:
    assert word not in without(before + word + after, spellings([word])) or word in MASK * 3


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz 0123456789", max_size=60))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert without(text, spellings(["HUNTER-TWO"])) == text


def test_short_words_are_left_alone_and_longer_ones_come_first() -> None:
    assert spellings(["abc", ""]) == ()
    looked_for = spellings(["word", "password"])
    assert without("the password is a word", looked_for) == f"the {MASK} is a {MASK}"
