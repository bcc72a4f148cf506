"""Packed trees: they come back, they are small whatever they are, and bytes that hold none are refused in one line."""

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cactus_core.coupled import CoupledTree, empty_tree
from cactus_core.errors import InvalidInput
from cactus_core.session import Hint, Limits
from cactus_core.wire import codec
from cactus_core.wire.trees import decode_tree, encode_tree
from cactus_core.wire.v1 import speculation_pb2 as pb
from tests.wire.bit_strings import DocumentedBits, string

LIMITS = Limits(max_rows=4, max_length=16)
VOCAB = 151_936
GRPC_BYTES, HTTP2_BYTES = 5, 9  # what stands before each message, and before each frame that carries one


def random_tree(rng, num_nodes, vocab_size, *, max_depth=LIMITS.max_length, base=3):
    """As many nodes as have room, wherever they fall; many tokens come again if the vocabulary is small."""
    tokens, parents, depths, taken = [], [], [], set()
    for _ in range(num_nodes):
        parent, token = int(rng.integers(-1, len(tokens))), int(rng.integers(vocab_size))
        depth = 1 + (depths[parent] if parent >= 0 else 0)
        if (parent, token) not in taken and depth <= max_depth:
            taken.add((parent, token))
            tokens.append(token)
            parents.append(parent)
            depths.append(depth)
    return CoupledTree(base, np.array(tokens, dtype=np.int64), np.array(parents, dtype=np.int64))


@st.composite
def trees(draw, max_nodes=64):
    vocab_size = draw(st.integers(1, 6) | st.integers(1, VOCAB))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    tree = random_tree(rng, draw(st.integers(0, max_nodes)), vocab_size, base=draw(st.integers(0, 1 << 20)))
    tokens = vocab_size - 1 - tree.tokens if draw(st.booleans()) else tree.tokens
    return CoupledTree(tree.base, tokens, tree.parents)


def are_same(ours, theirs):
    return ours.base == theirs.base and np.array_equal(ours.tokens, theirs.tokens) and np.array_equal(ours.parents, theirs.parents)


def sent(tree, round_number=5):
    return pb.DraftTree.FromString(codec.pack_hint(Hint(round_number, tree)).SerializeToString())


def unpacked(message, vocab_size):
    return codec.unpack_hint(message, LIMITS, vocab_size).tree


@pytest.mark.parametrize(
    ("wait_s", "arrives_s"), [(0.0, 0.0), (math.inf, math.inf), (0.0101, 0.011), (1e-9, 0.001), (1e12, (2**32 - 1) / 1e3)]
)
def test_a_hint_tells_how_long_to_wait_for_the_next(wait_s, arrives_s):
    message = pb.DraftTree.FromString(codec.pack_hint(Hint(7, empty_tree(3), wait_s)).SerializeToString())
    hint = codec.unpack_hint(message, LIMITS, VOCAB)
    assert (hint.round, hint.wait_s) == (7, arrives_s)


def test_a_wait_below_nothing_is_refused():
    for wait_s in (-1.0, math.nan):
        with pytest.raises(InvalidInput, match="wait_s must be 0"):
            Hint(0, empty_tree(3), wait_s)


@given(trees())
def test_trees_come_back_with_their_nodes_in_order(tree):
    message = sent(tree)
    assert message.round == 5
    assert are_same(unpacked(message, VOCAB), tree)


@given(trees())
def test_no_tree_is_larger_than_promised(tree):
    assume(len(tree.tokens))
    vocab_size, num_nodes = int(tree.tokens.max()) + 1, len(tree.tokens)
    most = num_nodes * (5 + np.log2(vocab_size) + np.log2(num_nodes)) + 12
    assert 8 * len(encode_tree(tree.tokens, tree.parents)) <= most


@pytest.mark.parametrize("tokens", [[0], [2**24 - 1], [2**23, 2**23 - 1], [0, 2**24 - 1], list(range(2**24 - 64, 2**24)), [VOCAB - 1] * 16])
def test_trees_at_the_limits_come_back(tokens):
    parents = np.arange(-1, len(tokens) - 1)
    back = decode_tree(encode_tree(np.array(tokens), parents), len(tokens))
    assert (back[0].tolist(), back[1].tolist()) == (tokens, parents.tolist())


def test_ids_beyond_the_format_are_not_sent():
    with pytest.raises(InvalidInput, match="below 2\\^24"):
        encode_tree(np.array([1 << 24]), np.array([-1]))


def test_an_empty_tree_is_a_few_bytes():
    message = sent(empty_tree(40), 3)
    assert message.ByteSize() <= 4
    assert are_same(unpacked(message, VOCAB), empty_tree(40))


@given(st.integers(16, 64), st.integers(0, 2**32 - 1))
def test_from_16_nodes_on_no_node_takes_8_bytes_framing_included(num_nodes, seed):
    tree = random_tree(np.random.default_rng(seed), num_nodes, VOCAB, base=VOCAB)
    assume(len(tree.tokens) >= 16)
    message = pb.EdgeFrame(draft_tree=codec.pack_hint(Hint(1 << 20, tree)))
    assert (message.ByteSize() + GRPC_BYTES + HTTP2_BYTES) / len(tree.tokens) <= 8
    assert len(message.draft_tree.packed) / len(tree.tokens) < 3.5


def test_an_id_that_comes_again_is_sent_once():
    chain = np.arange(-1, 31)
    once, again = encode_tree(VOCAB - 1 - np.arange(32), chain), encode_tree(np.full(32, VOCAB - 1), chain)
    assert len(once) - len(again) > 32 * 2


def read_as_documented(data, num_nodes):
    """The nodes as (id, parent), read bit by bit in the words of the proto."""
    bits = DocumentedBits(data)
    field, unary_number = bits.field, bits.unary_number
    is_new = [True] + [field(1) == 0 for _ in range(num_nodes - 1)]
    e = field(5)
    classes = [unary_number() for new in is_new if new]
    new_ids = [(1 << kind + e) + field(kind + e) - (1 << e) for kind in classes]
    ids, num_new = [None] * num_nodes, 0
    for node, new in enumerate(is_new):
        ids[node] = new_ids[num_new] if new else new_ids[field((num_new - 1).bit_length())]
        num_new += new
    parents = [field(node.bit_length()) - 1 for node in range(num_nodes)]
    assert len(rest := bits.rest()) < 8
    assert "1" not in rest
    return list(zip(ids, parents, strict=True))


@given(trees())
def test_the_bits_are_those_that_the_proto_says(tree):
    assume(len(tree.tokens))
    expected = list(zip(tree.tokens.tolist(), tree.parents.tolist(), strict=True))
    assert read_as_documented(encode_tree(tree.tokens, tree.parents), len(tree.tokens)) == expected


NEW, AGAIN = (0, 1), (1, 1)
# The tokens 2, 1 and 2: the first follows the text, the others the first.
HEAD = (NEW, AGAIN, (0, 5), 1, 1)
GOOD = (*HEAD, (1, 1), (0, 1), (0, 1), (1, 1), (1, 2))


def test_a_tree_written_by_hand_is_read():
    tokens, parents = decode_tree(string(*GOOD), 3)
    assert (tokens.tolist(), parents.tolist()) == ([2, 1, 2], [-1, 0, 0])


@pytest.mark.parametrize(
    ("data", "num_nodes", "word"),
    [
        (b"", 3, "ends inside"),
        (bytes(9), 3, "ends inside"),
        (bytes(99), 3, "99 bytes are more than 3 nodes can take"),
        (string(*GOOD)[:-1], 3, "ends inside"),
        (string(*GOOD) + b"\0", 3, "goes on"),
        (string(*GOOD, 0), 3, "goes on"),
        (b"\0", 0, "goes on"),
        (string(*GOOD), 65, "at most 64 nodes, not 65"),
        (string(*GOOD), 1 << 31, "at most 64 nodes"),
        (string((24, 5), 1), 1, "below 2\\^24"),
        (string((31, 5), 0), 1, "below 2\\^24"),
        (string((23, 5), 1, ((1 << 24) - 1, 24)), 1, "below 2\\^24, not 25165823"),
        (string((0, 5), 17, (0, 17)), 1, "names token 131071, but the vocabulary has"),
        (string(NEW, AGAIN, NEW, (0, 5), 0, 1, 1, (0, 1), (0, 1), (0, 1), (0, 1), (0, 2), (1, 2)), 4, "twice"),
        (string(*HEAD, (1, 1), (0, 1), (0, 1), (1, 1), (0, 2)), 3, "twice"),
        (string(*HEAD, (1, 1), (0, 1), (0, 1), (1, 1), (3, 2)), 3, "before their children"),
        (string(NEW, NEW, AGAIN, (0, 5), 0, 1, 1, (0, 1), (1, 1), (3, 2), (0, 1), (1, 2), (1, 2)), 4, "does not come before"),
    ],
)
def test_bytes_that_are_no_tree_are_refused(data, num_nodes, word):
    with pytest.raises(InvalidInput, match=word):
        unpacked(pb.DraftTree(num_nodes=num_nodes, packed=data), 100_000)


def test_a_tree_is_no_deeper_than_a_block_is_long():
    def chain(depth):
        return sent(CoupledTree(0, np.zeros(depth, dtype=np.int64), np.arange(-1, depth - 1)))

    assert unpacked(chain(16), VOCAB).depths.max() == 16
    with pytest.raises(InvalidInput, match="at most 16 nodes deep, not 17"):
        unpacked(chain(17), VOCAB)


def check_tree_or_refusal(message):
    try:
        tree = unpacked(message, 300)
    except InvalidInput as error:
        assert "\n" not in str(error)  # noqa: PT017  # most examples raise, some do not
        return
    assert len(tree.tokens) == message.num_nodes <= LIMITS.max_rows * LIMITS.max_length
    assert ((tree.tokens >= 0) & (tree.tokens < 300)).all()
    assert tree.depths.max(initial=0) <= LIMITS.max_length
    assert are_same(unpacked(sent(tree), 300), tree)


@given(st.binary(max_size=60), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_random_bytes_are_a_tree_or_refused(data, num_nodes, base):
    check_tree_or_refusal(pb.DraftTree(base=base, num_nodes=num_nodes, packed=data))


@given(trees(max_nodes=20), st.data())
def test_spoilt_trees_are_other_trees_or_refused(tree, data):
    message = sent(CoupledTree(tree.base, tree.tokens % 300, np.arange(-1, len(tree.tokens) - 1)))
    spoilt = bytearray(message.packed)
    for place in data.draw(st.lists(st.integers(0, 8 * len(spoilt) - 1), max_size=3)) if spoilt else ():
        spoilt[place // 8] ^= 1 << place % 8
    message.packed = bytes(spoilt[: data.draw(st.integers(0, len(spoilt)))] if data.draw(st.booleans()) else spoilt)
    message.num_nodes += data.draw(st.sampled_from([0, 0, 1]))
    check_tree_or_refusal(message)


def test_large_claims_and_large_messages_cost_little():
    messages = [pb.DraftTree(num_nodes=n, packed=data) for n in (0, 64, (1 << 32) - 1) for data in (b"", bytes(400), b"\xff" * (1 << 18))]
    tracemalloc.start()
    try:
        for message in messages[1:]:
            with pytest.raises(InvalidInput):
                unpacked(message, VOCAB)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
