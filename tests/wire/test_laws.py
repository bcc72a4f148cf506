"""Packed laws: they come back, they are small whatever they are, and bytes that hold none are refused in one line."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.demo_pair import demo_model
from cactus_core.errors import InvalidInput
from cactus_core.lattice import LatticeLaws
from cactus_core.sampling import SamplingParams
from cactus_core.wire.bits import BitReader, fields, packed, unary
from cactus_core.wire.laws import bytes_alone, decode_laws, encode_laws
from edge.drafting.onnx_drafter import OnnxDrafter
from edge.tokenizer import Tokenizer
from tests.integration.prompts import PROMPTS
from tests.wire.bit_strings import DocumentedBits, string

MAX_SUPPORT = 1024
MAX_TOKENS = 1 << 20


def some_ids(rng, kind, vocab_size, size):
    if kind == "first":
        return np.arange(size)
    if kind == "last":
        return np.arange(vocab_size - size, vocab_size)
    if kind == "ends":
        return np.append(np.arange(size - 1), vocab_size - 1)
    if kind == "dense at first":
        return np.argsort(np.arange(vocab_size) * rng.random(vocab_size), kind="stable")[:size]
    return rng.permutation(vocab_size)[:size]


def some_counts(rng, kind, total, size):
    if kind == "one has all":
        counts = np.ones(size, dtype=np.int64)
        counts[rng.integers(size)] += total - size
        return counts
    weights = np.ones(size) if kind == "alike" else rng.dirichlet(np.full(size, 0.1))
    counts = np.floor(weights / weights.sum() * (total - size)).astype(np.int64) + 1
    counts[0] += total - counts.sum()
    return counts


@st.composite
def many_laws(draw):
    """Laws as a drafter may make them, and as an adversary would."""
    bits, vocab_size = draw(st.integers(1, 16)), draw(st.integers(1, 40) | st.integers(1, 1 << 18))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    most = min(MAX_SUPPORT, vocab_size, 1 << bits)
    sizes = draw(st.lists(st.just(1) | st.integers(1, min(most, 40)) | st.just(most), max_size=6))
    id_kinds = st.sampled_from(["first", "last", "ends", "dense at first", "anywhere"])
    count_kinds = st.sampled_from(["one has all", "alike", "heavy-tailed"])
    ids, counts = np.zeros((2, len(sizes), max(sizes, default=0)), dtype=np.int64)
    for row, size in enumerate(sizes):
        ids[row, :size] = np.sort(some_ids(rng, draw(id_kinds), vocab_size, size))
        counts[row, :size] = some_counts(rng, draw(count_kinds), 1 << bits, size)
    return LatticeLaws(ids, counts, bits)


def are_same(ours, theirs):
    return ours.bits == theirs.bits and np.array_equal(ours.ids, theirs.ids) and np.array_equal(ours.counts, theirs.counts)


def decoded(data, laws):
    return decode_laws(data, len(laws.ids), laws.bits, MAX_SUPPORT, MAX_TOKENS)


@given(many_laws())
def test_laws_come_back(laws):
    assert are_same(decoded(encode_laws(laws), laws), laws)


@given(many_laws())
def test_no_law_is_larger_than_promised(laws):
    vocab_size = int(laws.ids.max(initial=0)) + 1
    tokens = laws.sizes * (10.2 + np.log2(vocab_size / laws.sizes) + np.log2(2**laws.bits / laws.sizes))
    fixed = 14 + 2 * np.log2(vocab_size) + vocab_size / 2**15
    each = 11 + np.log2(vocab_size) + vocab_size / 2**15
    assert 8 * len(encode_laws(laws)) <= tokens.sum() + each * len(tokens) + fixed
    assert (8 * bytes_alone(laws) <= tokens + each + fixed).all()


@pytest.mark.parametrize("ids", [[0], [2**18 - 1], [2**24 - 1], [0, 2**24 - 1], list(range(1024)), list(range(0, 2**24, 2**14))])
@pytest.mark.parametrize("num_laws", [1, 3])
def test_laws_at_the_limits_come_back(ids, num_laws):
    counts = np.ones((num_laws, len(ids)), dtype=np.int64)
    counts[:, -1] += 1024 - len(ids)
    laws = LatticeLaws(np.tile(ids, (num_laws, 1)), counts, 10)
    assert are_same(decoded(encode_laws(laws), laws), laws)


def test_ids_beyond_the_format_are_not_sent():
    with pytest.raises(InvalidInput, match="below 2\\^24"):
        encode_laws(LatticeLaws(np.array([[1 << 24]]), np.array([[2]]), 1))


def test_laws_that_share_their_support_name_it_once():
    rng = np.random.default_rng(0)
    ids = np.sort(some_ids(rng, "anywhere", 4096, 100))
    laws = LatticeLaws(np.tile(ids, (20, 1)), np.stack([some_counts(rng, "heavy-tailed", 1 << 14, 100) for _ in range(20)]), 14)
    assert len(encode_laws(laws)) < 0.7 * bytes_alone(laws).sum()


def read_as_documented(data, num_laws, total):
    """The laws as `{id: count}`, read bit by bit in the words of the proto."""
    bits = DocumentedBits(data)
    field, unary_number = bits.field, bits.unary_number
    log = unary_number()
    n = (1 << log) + field(log)
    sizes = [field((n - 1).bit_length()) + 1 for _ in range(num_laws)]
    row_lengths = [n] + [size for size in sizes if size < n]
    rows = [(field(4), field(2)) for _ in row_lengths]
    orders = [field(4) if size > 1 else 0 for size in sizes]
    widths = [[k + g * (4 * i // m) // 3 for i in range(m)] for m, (k, g) in zip(row_lengths, rows, strict=True)]
    quotients = [[unary_number() for _ in row] for row in widths]
    classes = [[unary_number() for _ in range(size)] if size > 1 else [] for size in sizes]
    numbers = []
    for row, heads in zip(widths, quotients, strict=True):
        numbers.append([])
        for width, quotient in zip(row, heads, strict=True):
            before = numbers[-1][-1] if numbers[-1] else -1
            numbers[-1].append(before + 1 + (quotient << width) + field(width))
    ids, *places = numbers
    laws = []
    for size, order, row in zip(sizes, orders, classes, strict=True):
        names = ids if size == n else [ids[place] for place in places.pop(0)]
        implied = row.index(max(row)) if row else 0
        counts = [0 if i == implied else (1 << kind + order) + field(kind + order) + 1 - (1 << order) for i, kind in enumerate(row)] or [0]
        counts[implied] = total - sum(counts)
        laws.append(dict(zip(names, counts, strict=True)))
    assert len(rest := bits.rest()) < 8
    assert "1" not in rest
    return laws


@given(many_laws().filter(lambda laws: len(laws.ids)))
def test_the_bits_are_those_that_the_proto_says(laws):
    expected = [
        dict(zip(ids[:size], counts[:size], strict=True))
        for ids, counts, size in zip(laws.ids.tolist(), laws.counts.tolist(), laws.sizes.tolist(), strict=True)
    ]
    assert read_as_documented(encode_laws(laws), len(laws.ids), 1 << laws.bits) == expected


@given(st.lists(st.tuples(st.integers(0, 2**25 - 1), st.integers(0, 25))), st.lists(st.integers(0, 300), min_size=1))
def test_strings_of_bits_come_back(numbers, lengths):
    values, widths = np.array(numbers, dtype=np.int64).reshape(-1, 2).T
    reader = BitReader(packed(unary(np.array(lengths)), fields(values, widths), unary(np.array(lengths))))
    assert reader.unary(len(lengths)).tolist() == lengths
    assert reader.fields(widths).tolist() == (values & ((1 << widths) - 1)).tolist()
    assert reader.unary(len(lengths)).tolist() == lengths
    reader.close()


ROW, ORDER = (0, 6), (0, 4)
# Two laws on ids 0 to 2: half and half on 0 and 1, all on 2.
HEAD = (1, (1, 1), (1, 2), (0, 2), ROW, ROW, ROW, ORDER)
GOOD = (*HEAD, 0, 0, 0, 0, 0, 2, 0, 0)


def test_laws_written_by_hand_are_read():
    laws = decode_laws(string(*GOOD), 2, 1, MAX_SUPPORT, MAX_TOKENS)
    assert laws.ids.tolist() == [[0, 1], [2, 0]]
    assert laws.counts.tolist() == [[1, 1], [2, 0]]


@pytest.mark.parametrize(
    ("data", "num_laws", "bits", "word"),
    [
        (string(*GOOD), 2, 0, "between 1 and 16, not 0"),
        (string(*GOOD), 2, 1 << 31, "between 1 and 16"),
        (b"", 2, 1, "ends inside"),
        (bytes(99), 2, 1, "ends inside"),
        (string(*GOOD)[:-1], 2, 1, "ends inside"),
        (string(*GOOD) + b"\0", 2, 1, "goes on"),
        (string(*GOOD, 0), 2, 1, "goes on"),
        (b"\0", 0, 1, "goes on"),
        (string(24, (0, 24)), 1, 1, "name 2\\^24 ids or more"),
        (string(23, (0, 23), (1 << 22, 23)), 1, 1, "at most 1024 tokens, not 4194305"),
        (string(1, (1, 1), (3, 2), (0, 2)), 2, 1, "3 ids cannot be those of laws on 5 tokens, 4 at most"),
        (string(2, (1, 2), (1, 3), (1, 3)), 2, 1, "5 ids cannot be those of laws on 4 tokens, 2 at most"),
        (string(10, (0, 10), (0, 10)), 1, 1, "1024 ids cannot be those"),
        (string(*HEAD, 0, 0, 0, 0, 0, 3, 0, 0), 2, 1, "names id 3 of 3"),
        (string(*HEAD, 0, 0, 0, 0, 3, 2, 0, 0), 2, 1, "names id 4 of 3"),
        (string(0, (60, 6), 1 << 9, (0, 15)), 1, 1, "names token 16777216"),
        (string(*HEAD, 0, 0, 0, 0, 0, 2, 17, 0), 2, 1, "at most 2\\^16"),
        (string(*HEAD, 0, 0, 0, 0, 0, 2, 1, 0), 2, 1, "do not add up to 2"),
        (string(*HEAD, 0, 0, 0, 0, 0, 2, 1, 1, (1, 1)), 2, 1, "do not add up to 2"),
        (string(*GOOD), 2, 2, "do not add up to 4"),
    ],
)
def test_bytes_that_are_no_laws_are_refused(data, num_laws, bits, word):
    with pytest.raises(InvalidInput, match=word):
        decode_laws(data, num_laws, bits, MAX_SUPPORT, MAX_TOKENS)


def check_laws_or_refusal(data, num_laws, bits, max_support, max_tokens=MAX_TOKENS):
    try:
        laws = decode_laws(data, num_laws, bits, max_support, max_tokens)
    except InvalidInput as error:
        assert "\n" not in str(error)  # noqa: PT017  # most examples raise, some do not
        return
    assert len(laws.ids) == num_laws
    assert laws.sizes.max(initial=0) <= max_support
    assert are_same(decode_laws(encode_laws(laws), num_laws, bits, max_support, max_tokens), laws)


@given(st.binary(max_size=200), st.integers(0, 9), st.integers(0, 20), st.integers(1, 70))
def test_random_bytes_are_laws_or_refused(data, num_laws, bits, max_support):
    check_laws_or_refusal(data, num_laws, bits, max_support)


@given(many_laws(), st.data())
def test_spoilt_laws_are_other_laws_or_refused(laws, data):
    spoilt = bytearray(encode_laws(laws))
    for place in data.draw(st.lists(st.integers(0, 8 * len(spoilt) - 1), max_size=3)) if spoilt else ():
        spoilt[place // 8] ^= 1 << place % 8
    spoilt = bytes(spoilt[: data.draw(st.integers(0, len(spoilt)))] if data.draw(st.booleans()) else spoilt)
    check_laws_or_refusal(spoilt, len(laws.ids) + data.draw(st.sampled_from([0, 0, 1])), laws.bits, MAX_SUPPORT, MAX_TOKENS)


@pytest.mark.parametrize(
    "data",
    [
        string(23, (0, 23)) + bytes(1500),
        string(18, (0, 18), *[(1023, 18)] * 512) + bytes(700),
        string(0, (60, 6)) + bytes(2000) + b"\1\0\0",
    ],
)
def test_large_claims_of_small_messages_cost_little(data):
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            decode_laws(data, 512, 14, MAX_SUPPORT, MAX_TOKENS)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def real_laws():
    """By support size and temperature: the laws of a few of the demo draft's blocks."""
    texts = [Tokenizer.load(Path(demo_model("draft"))).encode(prompt) for prompt in PROMPTS[:6]]
    blocks = {}
    for support_size in (16, 32, 64, 128, 256, 512, 1024):
        drafter = OnnxDrafter.load(demo_model("draft"), support_size=support_size, bits=14)
        for temperature in (1.0, 0.6):
            params = SamplingParams(temperature)
            drafted = [drafter.draft(text, num_rows=4, length=6, params=params, seed=seed) for seed, text in enumerate(texts)]
            blocks[support_size, temperature] = drafter.vocab_size, [block.laws for block in drafted]
    return blocks


def test_a_real_law_alone_is_near_its_combinatorial_size(real_laws):
    for case, (vocab_size, blocks) in real_laws.items():
        excess = [8 * bytes_alone(laws) - 1.15 * laws.combinatorial_bits(vocab_size) for laws in blocks]
        assert np.quantile(np.concatenate(excess), 0.99) <= 16, case


def test_real_laws_are_smaller_together(real_laws):
    for case, (_, blocks) in real_laws.items():
        assert sum(len(encode_laws(laws)) for laws in blocks) < 0.97 * sum(bytes_alone(laws).sum() for laws in blocks), case


def test_laws_on_too_many_tokens_together_are_refused():
    laws = LatticeLaws(np.tile(np.arange(8), (4, 1)), np.full((4, 8), 32), 8)
    assert decode_laws(encode_laws(laws), 4, 8, MAX_SUPPORT, 32).ids.size == 32
    with pytest.raises(InvalidInput, match="4 laws on up to 8 tokens are more than the 31"):
        decode_laws(encode_laws(laws), 4, 8, MAX_SUPPORT, 31)
