"""The count of tokens that stands before the parser."""

from __future__ import annotations

import time

import pytest
from graphql import GraphQLError, Source, TokenKind
from graphql.language import Lexer
from hypothesis import given, settings
from hypothesis import strategies as st

from schema import parsed
from schema.parsed import MAX_TOKENS, has_too_many_tokens

_PIECES = st.sampled_from(
    ["{", "}", "(", ")", "...", "name", "_n1", "1", "-1", "1.5", "2e10", '"text"', '"a\\"b"', '""', '"""block"""',
     '"""with \\""" in it"""', '"""\n"quoted"\n"""', "# words of a comment\n", "$v", ":", "@x", "|", "&", "=", "!", "[",
     "]"]
)  # fmt: skip


def counted(text: str) -> int:
    """What the lexer finds, comments included: the parser counts them."""
    lexer = Lexer(Source(text))
    first = token = lexer.token
    while token.kind is not TokenKind.EOF:
        token = lexer.advance()
    number, token = 0, first
    while (following := token.next) is not None and following.kind is not TokenKind.EOF:
        number, token = number + 1, following
    return number


@settings(deadline=None)
@given(st.lists(_PIECES, max_size=40))
def test_a_text_that_the_lexer_reads_has_as_many_tokens(pieces: list[str]) -> None:
    text = " ".join(pieces)
    try:
        number = counted(text)
    except GraphQLError:
        return
    assert len(parsed._TOKEN.findall(text)) <= number


@pytest.mark.parametrize(
    "text",
    [
        "{" * 60_000,
        "{ " + " ".join(f"a{number}: __typename" for number in range(1000)) + " }",
        '"""' * 20_000,
        '"""' + '\\"""' * 20_000,
        '"' + "\\" * 60_000,
        "1e" * 30_000,
        "#" * 60_000,
        "\n# x" * 20_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    began = time.process_time()
    has_too_many_tokens(text)
    # It takes a few thousandths; what grew with the square of the length would take minutes.
    assert time.process_time() - began < 1


def test_what_fits_is_left_to_the_parser() -> None:
    fits = "{ " + "a " * (MAX_TOKENS - 2) + "}"
    assert not has_too_many_tokens(fits)
    assert has_too_many_tokens(fits + " a")
    assert not has_too_many_tokens("# " + "word " * 10_000 + "\n{ a }")
    assert not has_too_many_tokens('{ a(text: "' + "word " * 10_000 + '") }')
