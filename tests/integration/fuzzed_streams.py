"""Streams in which one frame is not as it should be, and with which status each is to end.

A frame is fuzzed as its structure allows: what lies under its seal is real or of real parts. Two things make the status right that is
expected: a declared one where a fault has one, and the checker itself, called without a wire, where chance wrote the bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from grpc import StatusCode
from hypothesis import strategies as st

from cactus_core.acceptance import Acceptance
from cactus_core.coupled import CoupledTree
from cactus_core.errors import CactusError, Damaged
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cactus_core.session import Hint, Limits, Request
from cactus_core.wire import codec, varints
from cactus_core.wire.frames import edge_frame, sealed, unsealed
from cactus_core.wire.v1 import speculation_pb2 as pb
from tests.core.drafts import random_block

PROMPT = (5, 3)
VOCAB_SIZE = 8
KINDS = "blocks", "coupled", "alone"
OK, INVALID, STALE = StatusCode.OK, StatusCode.INVALID_ARGUMENT, StatusCode.ABORTED
MISMATCH, LIMIT, UNKNOWN_NAME = StatusCode.FAILED_PRECONDITION, StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNIMPLEMENTED
DAMAGED = StatusCode.DATA_LOSS
OF_CONTENT = frozenset({OK, INVALID, STALE, MISMATCH, LIMIT, UNKNOWN_NAME})
_LIMITS = Limits()
_ENDLESS = SamplingParams(temperature=1.0, logit_bias=((0, -100.0),))  # no text is over before its fuzzed frame is read
_LONGEST = 2**32 - 1
_TREE = Hint(1, CoupledTree(len(PROMPT), np.array([1, 2, 1]), np.array([-1, -1, 0])))
_CLOSE = pb.EdgeFrame(close=pb.Close()).SerializeToString()
_BLOCKS = [
    pb.EdgeFrame(draft_block=codec.pack_block(block, 0))
    for block in (
        random_block(seed, num_rows=1 + seed % 3, length=1 + seed % 4, vocab_size=VOCAB_SIZE, support_size=4, base=len(PROMPT))
        for seed in range(9)
    )
]
_TREES = [pb.EdgeFrame(draft_tree=codec.pack_hint(hint)) for hint in (_TREE, Hint(1, _TREE.tree, 0.0), Hint(2, _TREE.tree, 0.001))]


@dataclass(frozen=True)
class FuzzedStream:
    """Its frames as bytes, of which the `place`-th was fuzzed as `fault` says; it is to end with one of `expected`."""

    kind: str
    fault: str
    place: int
    frames: tuple[bytes, ...]
    expected: frozenset[StatusCode]


def opening(kind: str, fingerprint: str) -> pb.EdgeFrame:
    acceptance = Acceptance(COUPLED) if kind == "coupled" else Acceptance()
    request = Request(PROMPT, 24, 7, fingerprint, sampling=_ENDLESS, acceptance=acceptance, decode_alone=kind == "alone")
    return pb.EdgeFrame(open=codec.pack_request(request))


@st.composite
def fuzzed_streams(draw, fingerprint):
    kind = draw(st.sampled_from(KINDS))
    place = draw(st.integers(0, 1 if kind == "alone" else 2))
    fault = draw(st.sampled_from(FAULTS))
    before = [opening(kind, fingerprint), _TREES[0] if kind == "coupled" else _BLOCKS[0]][:place]
    if kind == "alone" and place == 0:
        real = opening(kind, fingerprint)
    else:
        real = opening(kind, fingerprint) if place == 0 else draw(st.sampled_from(_TREES if kind == "coupled" else _BLOCKS))
    frame, expected = fault(draw, real, kind, place, fingerprint)
    frames = [sealed(each.SerializeToString(), number) for number, each in enumerate(before)]
    closing = (sealed(_CLOSE, place + 1),) if OK in expected else ()  # else the stream is ended by the frame, or not at all
    return FuzzedStream(kind, fault.__name__, place, (*frames, frame, *closing), expected)


def flipped(draw, real, kind, place, fingerprint):
    """Bits of a frame that was sealed before."""
    return damaged(_with_flips(draw, sealed(real.SerializeToString(), place)), place)


def truncated(draw, real, kind, place, fingerprint):
    frame = sealed(real.SerializeToString(), place)
    return damaged(frame[: draw(st.integers(0, len(frame) - 1))], place)


def extended(draw, real, kind, place, fingerprint):
    return damaged(sealed(real.SerializeToString(), place) + draw(st.binary(min_size=1, max_size=20)), place)


def spliced(draw, real, kind, place, fingerprint):
    """The beginning of one frame and the end of another, each of which was whole."""
    one, other = sealed(real.SerializeToString(), place), sealed(_any_other(draw, fingerprint).SerializeToString(), place)
    return damaged(_spliced(draw, one, other), place)


def sealed_for_another_place(draw, real, kind, place, fingerprint):
    number = draw(st.integers(0, 9).filter(lambda each: each != place))
    return damaged(sealed(real.SerializeToString(), number), place)


def sealed_by_chance(draw, real, kind, place, fingerprint):
    return damaged(real.SerializeToString() + draw(st.one_of(st.just(b""), st.binary(min_size=5, max_size=5))), place)


def flipped_before_its_seal(draw, real, kind, place, fingerprint):
    return judged(_with_flips(draw, real.SerializeToString()), kind, place)


def truncated_before_its_seal(draw, real, kind, place, fingerprint):
    payload = real.SerializeToString()
    return judged(payload[: draw(st.integers(0, len(payload) - 1))], kind, place)


def spliced_before_its_seal(draw, real, kind, place, fingerprint):
    return judged(_spliced(draw, real.SerializeToString(), _any_other(draw, fingerprint).SerializeToString()), kind, place)


def with_an_oversize_length(draw, real, kind, place, fingerprint):
    """A field that says of itself that it is far longer than what is there."""
    payload, field = real.SerializeToString(), draw(st.integers(1, 15))
    at = draw(st.integers(0, len(payload)))
    long = bytes([field << 3 | 2]) + varints.encode_one(draw(st.integers(1 << 20, (1 << 35) - 1)))
    return judged(payload[:at] + long + payload[at:], kind, place)


def with_a_bad_value(draw, real, kind, place, fingerprint):
    choices = _BAD_OPENINGS if place == 0 else _BAD_TREES if kind == "coupled" else _BAD_BLOCKS
    change, status = draw(st.sampled_from(choices))
    bad = pb.EdgeFrame()
    bad.CopyFrom(real)
    change(getattr(bad, bad.WhichOneof("kind")))
    expected = INVALID if kind == "alone" and place else status
    return sealed(bad.SerializeToString(), place), frozenset({expected})


def out_of_order(draw, real, kind, place, fingerprint):
    """A frame that is well, where it has no business."""
    if place == 0:
        wrong = draw(st.sampled_from([_BLOCKS[0], _TREES[0], pb.EdgeFrame(close=pb.Close()), pb.EdgeFrame()]))
    else:
        wrong = draw(st.sampled_from([opening(kind, fingerprint), _BLOCKS[1] if kind == "coupled" else _TREES[1], pb.EdgeFrame()]))
    return sealed(wrong.SerializeToString(), place), frozenset({INVALID})


def too_large(draw, real, kind, place, fingerprint):
    if draw(st.integers(0, 9)):  # such frames take their time
        return out_of_order(draw, real, kind, place, fingerprint)
    return sealed(real.SerializeToString() + bytes(_LIMITS.max_frame_bytes), place), frozenset({LIMIT})


def intact(draw, real, kind, place, fingerprint):
    """Nothing is wrong: so that a system which refuses everything is found out."""
    if kind == "alone" and place:
        real = pb.EdgeFrame(close=pb.Close())
    return judged(real.SerializeToString(), kind, place)


FAULTS = (
    flipped, truncated, extended, spliced, sealed_for_another_place, sealed_by_chance, flipped_before_its_seal, truncated_before_its_seal,
    spliced_before_its_seal, with_an_oversize_length, with_a_bad_value, with_a_bad_value, out_of_order, too_large, intact,
)  # fmt: skip


def damaged(frame, place):
    """What chance left whole is no fault."""
    try:
        unsealed(frame, place)
    except Damaged:
        return frame, frozenset({DAMAGED})
    return frame, OF_CONTENT


def judged(payload, kind, place):
    """By the checker, which takes messages; what it lets pass may still not fit the session."""
    try:
        message = edge_frame(payload)
        match message.WhichOneof("kind"):
            case "open" if place == 0:
                codec.unpack_request(message.open).check_vocabulary(VOCAB_SIZE)
            case "draft_block" if place and kind == "blocks":
                codec.unpack_block(message.draft_block, _LIMITS, VOCAB_SIZE)
            case "draft_tree" if place and kind == "coupled":
                codec.unpack_hint(message.draft_tree, _LIMITS, VOCAB_SIZE)
            case "close" if place:
                return sealed(payload, place), frozenset({OK})
            case _:
                return sealed(payload, place), frozenset({INVALID})
    except CactusError as error:
        # A gateway looks at an opening's prompt before a verifier looks at all of it.
        return sealed(payload, place), frozenset({StatusCode[error.code], *(() if place else (INVALID, MISMATCH))})
    return sealed(payload, place), OF_CONTENT


def _any_other(draw, fingerprint):
    return draw(st.sampled_from([*_BLOCKS, *_TREES, *(opening(kind, fingerprint) for kind in KINDS)]))


def _with_flips(draw, data):
    bits = draw(st.lists(st.integers(0, 8 * len(data) - 1), min_size=1, max_size=8))
    flipped = bytearray(data)
    for bit in bits:
        flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def _spliced(draw, one, other):
    return one[: draw(st.integers(0, len(one)))] + other[draw(st.integers(0, len(other))) :]


def _sets(**fields):
    """A change of a message: its fields, by their path with two underscores."""

    def change(message):
        for path, value in fields.items():
            *way, last = path.split("__")
            inner = message
            for name in way:
                inner = getattr(inner, name)
            if isinstance(value, list):
                del getattr(inner, last)[:]
                getattr(inner, last).extend(value)
            else:
                setattr(inner, last, value)

    return change


def _encoded(*values):
    return varints.encode(np.array(values, dtype=np.int64))


_TWICE = [pb.LogitBias(token=1, bias=1.0)] * 2
_BAD_OPENINGS = [
    (_sets(protocol=99), MISMATCH),
    (_sets(fingerprint="another's"), MISMATCH),
    (_sets(model="nobody's"), MISMATCH),
    *((_sets(sampling__temperature=value), INVALID) for value in (math.nan, math.inf, -1.0, 1e-9)),
    (_sets(sampling__top_p=2.0), INVALID),
    (_sets(sampling__min_p=-0.5), INVALID),
    (_sets(sampling__frequency_penalty=math.nan), INVALID),
    (_sets(sampling__repetition_penalty=0.0), INVALID),
    (_sets(sampling__logit_bias=_TWICE), INVALID),
    (_sets(sampling__logit_bias=[pb.LogitBias(token=_LONGEST, bias=1.0)]), INVALID),
    (_sets(acceptance__rule="wishful"), UNKNOWN_NAME),
    (_sets(acceptance__rule="quota+block", acceptance__relaxation="wishful", acceptance__strength=1.0), UNKNOWN_NAME),
    (_sets(acceptance__rule="quota+block", acceptance__relaxation="certified", acceptance__strength=math.nan), INVALID),
    (_sets(prompt_varints=b""), INVALID),
    (_sets(prompt_varints=b"\x80"), INVALID),
    (_sets(prompt_varints=b"\xff" * 9 + b"\x01"), INVALID),
    (_sets(prompt_varints=_encoded(1, VOCAB_SIZE)), INVALID),
    (_sets(prompt_varints=_encoded(1, (1 << 35) - 1)), INVALID),
    (_sets(committed_varints=_encoded(VOCAB_SIZE)), INVALID),
    (_sets(committed_varints=_encoded(*[1] * 24)), INVALID),
    (_sets(committed_varints=b"\xff"), INVALID),
    (_sets(stop_varints=_encoded(*[1] * 65)), INVALID),
    (_sets(num_top_logprobs=21), INVALID),
    (_sets(max_tokens=0), INVALID),
    (_sets(max_tokens=_LONGEST), LIMIT),
]
_BAD_BLOCKS = [
    (_sets(base=len(PROMPT) + 40, round=3), STALE),
    (_sets(base=_LONGEST, round=_LONGEST), STALE),
    (_sets(base=0, round=3), STALE),
    (_sets(num_rows=17), INVALID),
    (_sets(length=33), INVALID),
    (_sets(num_rows=_LONGEST, length=_LONGEST), INVALID),
    (_sets(choice_varints=b"\x00" * 99), INVALID),
    (_sets(choice_varints=b""), INVALID),
    (_sets(law_varints=b"\x80"), INVALID),
    (_sets(laws__bits=0), INVALID),
    (_sets(laws__bits=_LONGEST), INVALID),
    (_sets(laws__num_laws=0, laws__packed=b""), INVALID),
    (_sets(laws__num_laws=_LONGEST), INVALID),
    (_sets(laws__packed=b""), INVALID),
    (_sets(laws__packed=b"\x00" * 40), INVALID),
]  # fmt: skip
_BAD_TREES = [
    (_sets(base=0), INVALID),
    (_sets(base=200), INVALID),
    (_sets(base=_LONGEST), INVALID),
    (_sets(num_nodes=_LONGEST), INVALID),
    (_sets(num_nodes=513), INVALID),
    (_sets(num_nodes=3, packed=b""), INVALID),
    (_sets(num_nodes=1, packed=b"\x00" * 40), INVALID),
    (_sets(packed=b"\xff" * 400), INVALID),
]
