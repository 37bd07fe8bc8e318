from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.tokens import mint, parse


def test_a_minted_token_has_the_documented_form() -> None:
    minted = mint()
    assert re.fullmatch(r"wl_[0-9A-Za-z]{11}_[0-9A-Za-z_-]{43}[0-9A-Za-z]{6}", minted.text)
    assert minted.text[3:14] == minted.public_id
    assert minted.secret_hash == hashlib.sha256(minted.text[15:58].encode()).digest()


def test_a_minted_token_is_read_back() -> None:
    minted = mint()
    parsed = parse(minted.text)
    assert parsed is not None
    assert parsed.public_id == minted.public_id
    assert parsed.proves(minted.secret_hash)
    assert not parsed.proves(mint().secret_hash)


def test_tokens_differ() -> None:
    tokens = [mint() for _ in range(200)]
    assert len({token.public_id for token in tokens}) == 200
    assert len({token.secret_hash for token in tokens}) == 200


def test_the_text_stays_out_of_the_repr() -> None:
    minted = mint()
    assert minted.text not in repr(minted)
    assert minted.text[15:58] not in repr(minted)


def test_the_checksum_is_the_documented_one() -> None:
    """CRC-32 of everything before it, as six digits of 0-9A-Za-z: other programs may check tokens too."""
    assert parse("wl_" + "0" * 11 + "_" + "A" * 43 + "2x56bA") is not None


@given(st.integers(0, 63), st.sampled_from("0Aa_-é "))
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    text = mint().text
    wrong = text[:position] + character + text[position + 1 :]
    assert (parse(wrong) is None) == (wrong != text)


@pytest.mark.parametrize(
    "text", ["", "wl_", "Bearer x", "wl_" + "a" * 61, "\n", "wl_" + "a" * 11 + "_" + "a" * 49 + "\n"]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    assert parse(text) is None


def test_a_newline_at_the_end_is_noticed() -> None:
    assert parse(mint().text + "\n") is None
