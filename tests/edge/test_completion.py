"""A text that is written before the target has said so is the target's in the end."""

import math

from hypothesis import given
from hypothesis import strategies as st

from edge.completion import Completion, Piece, Retraction, Writing
from edge.rounds import Origin, Token


class Spelling:
    """Each id is its own text, and a text of a new stream starts anew."""

    def stream(self):
        return lambda token: f"<{token}>"


def unverified(token):
    return Token(token, Origin.UNVERIFIED, math.nan, 0.0)


def verified(token):
    return Token(token, Origin.DECODED, -0.5, 0.0)


def written(tokens):
    completion = Completion("p")
    writing = Writing(completion, Spelling())
    return completion, [told for token in tokens for told in writing.write(token)]


def test_what_the_target_writes_too_is_not_told_again():
    completion, told = written([verified(1), unverified(2), unverified(3), verified(2), verified(3), verified(4)])
    assert [piece.text for piece in told] == ["<1>", "<2>", "<3>", "<4>"]
    assert [token.origin for token in completion.tokens] == [Origin.DECODED] * 4
    assert completion.summary.num_retracted == 0


def test_what_the_target_writes_otherwise_is_taken_back():
    completion, told = written([verified(1), unverified(2), unverified(3), unverified(4), verified(2), verified(9), verified(5)])
    assert told[-3:] == [Retraction(2), Piece(verified(9), "<9>"), Piece(verified(5), "<5>")]
    assert completion.text == "<1><2><9><5>"
    assert completion.summary.num_retracted == 2


steps = st.lists(st.tuples(st.booleans(), st.integers(0, 2)), max_size=40)


@given(steps)
def test_a_caller_who_takes_back_what_it_is_told_to_has_the_text(steps):
    """Verified tokens are the text, whatever was written between them; a draft writes only after what stands."""
    completion, told = written([verified(token) if is_verified else unverified(token) for is_verified, token in steps])
    shown = []
    for each in told:
        if isinstance(each, Retraction):
            del shown[-each.num_tokens :]
        else:
            shown.append(each.token.id)
    text = [token for is_verified, token in steps if is_verified]
    assert shown[: len(text)] == text
    assert shown == [token.id for token in completion.tokens]
    assert completion.text == "".join(f"<{token}>" for token in shown)
