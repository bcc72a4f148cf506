"""Text in and out, a token at a time."""

import pytest

from cactus_core.demo_pair import demo_model
from cactus_core.errors import InvalidInput
from cactus_core.fingerprint import fingerprint
from edge.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    from pathlib import Path

    return Tokenizer.load(Path(demo_model("target")))


def test_streamed_pieces_join_to_the_text(tokenizer):
    text = "def größe(x):\n    return '→ 雪' + x\n"
    piece_of = tokenizer.stream()
    assert "".join(piece_of(token) for token in tokenizer.encode(text)) == text


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match=r"has no tokenizer\.json"):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput, match="is not a tokenizer"):
        Tokenizer.load(tmp_path)


def test_fingerprints_tell_vocabularies_apart_and_ignore_order():
    assert fingerprint({"a": 0, "b": 1}) == fingerprint({"b": 1, "a": 0})
    assert len({fingerprint(v) for v in ({"a": 0, "b": 1}, {"a": 1, "b": 0}, {"a": 0}, {"a": 0, "c": 1})}) == 4
