"""Signatures as Standard Webhooks has them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.hooks import TOLERANCE_SECONDS, Call, hash_of, signature_of, written_secret

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
BODY = b'{"test": 2432232314}'
ID, TIMESTAMP = "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330"
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
NOW = 1614265330.0
CALL = Call(BODY, None, ID, TIMESTAMP, SIGNATURE)


def test_the_published_example() -> None:
    assert signature_of(SECRET, ID, TIMESTAMP, BODY) == SIGNATURE
    assert CALL.is_signed(SECRET, NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"body": BODY + b" "},
        {"id": "msg_other"},
        {"timestamp": "1614265331"},
        {"timestamp": "-1614265330"},
        {"timestamp": "1614265330 "},
        {"timestamp": "soon"},
        {"timestamp": None},
        {"id": None},
        {"signature": None},
        {"signature": ""},
        {"signature": "v2" + SIGNATURE[2:]},
        {"signature": SIGNATURE.lower()},
        {"signature": "v1,é"},
    ],
)
def test_anything_else_is_not_signed(change: dict[str, str | None]) -> None:
    assert not replace(CALL, **change).is_signed(SECRET, NOW)  # type: ignore[arg-type]


def test_one_of_several_signatures_is_enough() -> None:
    assert replace(CALL, signature=f"v1,AAAA {SIGNATURE} v1a,x").is_signed(SECRET, NOW)


@pytest.mark.parametrize("off", [-TOLERANCE_SECONDS - 1, TOLERANCE_SECONDS + 1])
def test_a_call_is_signed_for_five_minutes(off: float) -> None:
    assert not CALL.is_signed(SECRET, NOW + off)
    assert CALL.is_signed(SECRET, NOW + off * 0.9)


def test_another_secret_signs_otherwise() -> None:
    assert not CALL.is_signed(written_secret(bytes(32)), NOW)
    with pytest.raises(ValueError, match="no signing secret"):
        signature_of("whsec_é", ID, TIMESTAMP, BODY)


@pytest.mark.parametrize(
    "text", ["", "wlh_", "wlh_" + "a" * 42, "wlh_" + "a" * 44, "wl_" + "a" * 43, "wlh_" + "é" * 43]
)
def test_what_no_token_looks_like(text: str) -> None:
    assert hash_of(text) is None
    assert hash_of("wlh_" + "a" * 43) is not None


@pytest.mark.parametrize(("text", "good"), [("a", True), ("a b", False), ("", False), ("x" * 201, False), ("é", False)])
def test_an_id_can_be_kept(text: str, good: bool) -> None:
    assert replace(CALL, id=text).is_well_formed is good
    assert replace(CALL, id=None).is_well_formed
