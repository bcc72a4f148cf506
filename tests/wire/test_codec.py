"""The wire: what goes in comes out, and what does not hold together is refused in one line."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.acceptance import Acceptance
from cactus_core.block import empty_block
from cactus_core.errors import InvalidInput, Mismatch, Unsupported
from cactus_core.lattice import quantise
from cactus_core.sampling import SamplingParams
from cactus_core.session import PROTOCOL, Decision, Finish, Limits, Request, Served
from cactus_core.wire import codec, varints
from cactus_core.wire.v1 import speculation_pb2 as pb
from tests.core.drafts import random_block

LIMITS = Limits(max_rows=8, max_length=8, max_support=64)
VOCAB = 300


@given(st.lists(st.integers(0, 2**35 - 1)))
def test_varints_come_back(numbers):
    assert varints.decode(varints.encode(np.array(numbers, dtype=np.int64))).tolist() == numbers


@pytest.mark.parametrize("data", [b"\x80", b"\x01\xff", b"\x80\x80\x80\x80\x80\x01"])
def test_varints_that_end_early_or_never_are_refused(data):
    with pytest.raises(InvalidInput):
        varints.decode(data)


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 64), st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_blocks_come_back(num_rows, length, support_size, bits, seed):
    block = random_block(seed, num_rows=num_rows, length=length, vocab_size=VOCAB, support_size=support_size, bits=bits)
    message = pb.DraftBlock.FromString(codec.pack_block(block, 5).SerializeToString())
    back = codec.unpack_block(message, LIMITS, VOCAB)
    assert (message.round, back.base, back.laws.bits) == (5, block.base, bits)
    for ours, theirs in (
        (block.tokens, back.tokens),
        (block.law_of, back.law_of),
        (block.laws.ids, back.laws.ids),
        (block.laws.counts, back.laws.counts),
    ):
        assert np.array_equal(ours, theirs)


def test_an_empty_block_is_a_few_bytes():
    message = codec.pack_block(empty_block(40), 3)
    assert message.ByteSize() <= 4
    assert codec.unpack_block(message, LIMITS, VOCAB).length == 0


def good():
    return codec.pack_block(random_block(1, num_rows=2, length=3, vocab_size=VOCAB, support_size=8), 0)


def spoilt(**changes):
    message = good()
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def far_token():
    message = good()
    message.laws.CopyFrom(codec.pack_laws(quantise(np.eye(VOCAB + 9)[[VOCAB + 8]], 1, 8)))
    message.choice_varints, message.law_varints = bytes(6), bytes(6)
    return message


def many_laws():
    message = good()
    message.laws.num_laws = 1 << 31
    return message


def wide_law():
    message = good()
    message.laws.CopyFrom(codec.pack_laws(quantise(np.full((1, VOCAB), 1 / VOCAB), 65, 8)))
    return message


def other_sum():
    message = good()
    message.laws.bits += 1
    return message


def cut_short():
    message = good()
    message.laws.packed = message.laws.packed[:-2]
    return message


def too_long():
    message = good()
    message.laws.packed += b"\0"
    return message


@pytest.mark.parametrize(
    ("message", "word"),
    [
        (spoilt(num_rows=9), "at most 8 x 8"),
        (spoilt(length=4_000_000_000), "at most 8 x 8"),
        (spoilt(choice_varints=b"\x01"), "comes with 1"),
        (spoilt(choice_varints=b"\x7f" * 6), "not in the support"),
        (spoilt(law_varints=b"\x7f" * 6), "names law 127"),
        (spoilt(law_varints=b"\x00\x01\x02\x03\x01\x02"), "share a prefix"),
        (far_token(), "vocabulary has 300"),
        (many_laws(), "at most 64 laws"),
        (wide_law(), "at most 64 tokens, not 65"),
        (other_sum(), "do not add up to 512"),
        (cut_short(), "ends inside a number"),
        (too_long(), "goes on after its last number"),
    ],
)
def test_blocks_that_do_not_hold_together_are_refused(message, word):
    with pytest.raises(InvalidInput, match=word):
        codec.unpack_block(message, LIMITS, VOCAB)


@given(
    st.binary(max_size=200),
    st.binary(max_size=40),
    st.binary(max_size=40),
    st.integers(0, 9),
    st.integers(0, 9),
    st.integers(0, 70),
    st.integers(0, 20),
)
def test_random_bytes_are_a_block_or_an_input_error(laws, choices, law_of, num_rows, length, num_laws, bits):
    message = pb.DraftBlock(
        num_rows=num_rows,
        length=length,
        choice_varints=choices,
        law_varints=law_of,
        laws=pb.Laws(bits=bits, num_laws=num_laws, packed=laws),
    )
    try:
        codec.unpack_block(message, LIMITS, VOCAB)
    except InvalidInput as error:
        assert "\n" not in str(error)  # noqa: PT017  # most examples raise, some do not


def test_requests_decisions_and_descriptions_come_back():
    for acceptance in (
        Acceptance(),
        Acceptance("quota+token", "priced", 0.3),
        Acceptance(relaxation="certified", strength=0.1, budget=0.0),
    ):
        request = Request(
            (1, 2, 300), 5, 2**64 - 1, "ab", "m", SamplingParams(0.5, 3, 0.25), acceptance, decode_alone=True, committed=(7, 0)
        )
        assert codec.unpack_request(codec.pack_request(request)) == request
    for final, finish in ((None, Finish.STOP), (0, None), (7, Finish.LENGTH)):
        for divergence in ((0.0, 0.0), (0.0, 0.125), (math.inf, 0.0)):
            num_accepted = 2 - (final is not None)
            decision = Decision(1, 2, 3, num_accepted, final, (-1.5, -0.25), divergence, finish, 0.5, 0.25)
            assert codec.unpack_decision(codec.pack_decision(decision, 1)) == decision
    served = Served("m", "f", 3, 4, Limits(), {"quota+token": "exact"}, {"certified": "delta"})
    assert codec.unpack_served(codec.pack_served(served)) == served


numbers = st.floats(-2.0, 2.0)
samplings = st.builds(
    SamplingParams,
    temperature=st.just(0.0) | st.floats(1e-3, 100.0),
    top_k=st.integers(0, 2**32 - 1),
    top_p=st.floats(0.0, 1.0, exclude_min=True),
    min_p=st.floats(0.0, 1.0),
    presence_penalty=numbers,
    frequency_penalty=numbers,
    repetition_penalty=st.just(1.0) | st.floats(0.01, 100.0),
    logit_bias=st.dictionaries(st.integers(0, 2**32 - 1), st.floats(-100.0, 100.0), max_size=5).map(lambda biases: tuple(biases.items())),
)
ids = st.integers(0, 2**32 - 1)


@given(samplings, st.lists(ids, max_size=64), st.integers(0, 20))
def test_sampling_stop_ids_and_top_logprobs_come_back(sampling, stop_ids, num_top_logprobs):
    request = Request((1,), 5, 0, "ab", sampling=sampling, stop_ids=tuple(stop_ids), num_top_logprobs=num_top_logprobs)
    assert codec.unpack_request(pb.Open.FromString(codec.pack_request(request).SerializeToString())) == request


@given(st.lists(st.lists(st.tuples(ids, st.floats(-1e3, 0.0, width=32)), max_size=20), min_size=1, max_size=4))
def test_the_likeliest_tokens_come_back(places):
    likeliest = tuple(map(tuple, places))
    count = len(places)
    accepted = tuple(range(count - 1))
    decision = Decision(1, 2, 3, count - 1, 7, (-1.0,) * count, (0.0,) * count, None, 0.5, 0.25, likeliest, accepted)
    assert codec.unpack_decision(pb.Decision.FromString(codec.pack_decision(decision, 1).SerializeToString())) == decision


def test_what_is_not_asked_for_costs_no_bytes():
    """An older edge's request, and what an older edge reads, are what they were."""
    message = codec.pack_request(Request((1,), 5, 0, "ab", sampling=SamplingParams(0.5, 3, 0.25)))
    assert message.sampling == pb.Sampling(temperature=0.5, top_k=3, top_p=0.25)
    assert not message.stop_varints
    assert codec.unpack_sampling(message.sampling) == SamplingParams(0.5, 3, 0.25)
    assert not codec.pack_decision(Decision(1, 2, 3, 0, 7, (-1.5,), (0.0,), None, 0.5, 0.25), 1).top_logprobs


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sampling": pb.Sampling(top_p=1, repetition_penalty=0.0)}, "repetition_penalty"),
        ({"sampling": pb.Sampling(top_p=1, logit_bias=[pb.LogitBias(token=3, bias=math.nan)])}, "logit_bias"),
        ({"sampling": pb.Sampling(top_p=1, logit_bias=[pb.LogitBias(token=t, bias=1) for t in range(400)])}, "at most 300"),
        ({"stop_varints": b"\x01" * 70}, "at most 64"),
        ({"stop_varints": b"\x80"}, "ends inside a number"),
        ({"num_top_logprobs": 4_000_000_000}, "between 0 and 20"),
    ],
)
def test_samplings_that_are_out_of_range_are_refused(change, says):
    fields = {"protocol": PROTOCOL, "prompt_varints": b"\x01", "max_tokens": 5, "sampling": pb.Sampling(top_p=1), **change}
    with pytest.raises(InvalidInput, match=says):
        codec.unpack_request(pb.Open(**fields))


def test_likeliest_tokens_without_their_logprobs_are_refused():
    message = pb.Decision(num_accepted=1, logprobs=[-1.5], top_logprobs=[pb.Likeliest(token_varints=b"\x05\x06", logprobs=[-1.0])])
    with pytest.raises(InvalidInput, match="2 likeliest tokens with 1"):
        codec.unpack_decision(message)


def test_an_exact_decision_carries_no_ledger():
    decision = Decision(1, 2, 3, 1, 7, (-1.5, -0.25), (0.0, 0.0), None, 0.5, 0.25)
    assert not codec.pack_decision(decision, 1).divergence


def test_a_decision_whose_ledger_does_not_fit_its_tokens_is_refused():
    for divergence in ([0.5], [0.5, -0.5], [math.nan, 0.5]):
        message = pb.Decision(num_accepted=2, logprobs=[-1.5, -0.25], divergence=divergence)
        with pytest.raises(InvalidInput, match="entries"):
            codec.unpack_decision(message)


def test_a_request_that_names_no_acceptance_gets_the_default():
    message = codec.pack_request(Request((1,), 5, 0, "ab"))
    message.ClearField("acceptance")
    assert codec.unpack_request(message).acceptance == Acceptance()


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"rule": "wishful"}, Unsupported, "no acceptance rule is called 'wishful'"),
        ({"relaxation": "wishful"}, Unsupported, "no relaxation is called 'wishful'"),
        ({"relaxation": "certified", "strength": math.nan}, InvalidInput, "strength"),
        ({"relaxation": "certified", "strength": -0.5}, InvalidInput, "delta must be 0 or more"),
        ({"relaxation": "certified", "strength": 0.5, "budget": -1.0}, InvalidInput, "budget must be 0 nats or more"),
        ({"relaxation": "certified", "strength": 0.5, "budget": math.nan}, InvalidInput, "budget must be 0 nats or more"),
        ({"relaxation": "typical", "strength": 0.5, "budget": 1.0}, InvalidInput, "runs as published"),
        ({"strength": 0.5}, InvalidInput, "needs a relaxation"),
        ({"budget": 0.5}, InvalidInput, "needs a relaxation"),
    ],
)
def test_acceptances_that_do_not_hold_together_are_refused(fields, error, says):
    message = codec.pack_request(Request((1,), 5, 0, "ab"))
    message.acceptance.CopyFrom(pb.Acceptance(**fields))
    with pytest.raises(error, match=says):
        codec.unpack_request(message)


def test_another_protocol_is_refused():
    message = codec.pack_request(Request((1,), 5, 0, "ab"))
    message.protocol = 99
    with pytest.raises(Mismatch, match="same version"):
        codec.unpack_request(message)


def test_a_request_without_a_prompt_is_refused():
    with pytest.raises(InvalidInput, match="prompt is empty"):
        codec.unpack_request(pb.Open(protocol=PROTOCOL, max_tokens=3, sampling=pb.Sampling(top_p=1)))
