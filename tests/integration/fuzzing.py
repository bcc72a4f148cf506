"""Frames that a broken or hostile edge may send, made from good ones: their bytes marred, or their fields, with a seal that fits.

Knows messages by their descriptors, so that a new field is fuzzed as it comes; knows nothing of who reads them.
"""

import random
from collections.abc import Iterator

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from cactus_core.acceptance import Acceptance
from cactus_core.block import empty_block
from cactus_core.coupled import CoupledTree
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cactus_core.session import Hint, Request
from cactus_core.wire import codec
from cactus_core.wire.frames import sealed
from cactus_core.wire.v1 import speculation_pb2 as pb

_NUMBERS = (0, 1, 2, 7, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
_REALS = (0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, float("inf"), float("-inf"), float("nan"), 0.5)
_TEXTS = ("", "coupled", "quota+block", "certified", "no such", "\0", "x" * 5000, "ä\n")


def good_frames(fingerprint: str) -> dict[str, tuple[pb.EdgeFrame, ...]]:
    """Streams as edges send them, by family, each from Open on. Their texts are short."""
    prompt = (2, 3)
    sampling = SamplingParams(0.7, top_k=4, logit_bias=((0, -5.0),))
    in_rows = Request(prompt, 8, 5, fingerprint, sampling=sampling, stop_ids=(6,), num_top_logprobs=2)
    coupled = Request(prompt, 8, 5, fingerprint, acceptance=Acceptance(COUPLED), decode_alone=True)
    relaxed = Request(prompt, 8, 5, fingerprint, acceptance=Acceptance(relaxation="certified", strength=0.1, budget=1.0))
    tree = CoupledTree(len(prompt), np.array([1, 2, 3]), np.array([-1, 0, 0]))
    block = pb.EdgeFrame(draft_block=codec.pack_block(empty_block(len(prompt)), 0))
    return {
        "blocks": (pb.EdgeFrame(open=codec.pack_request(in_rows)), block),
        "relaxed": (pb.EdgeFrame(open=codec.pack_request(relaxed)), block),
        "coupled": (pb.EdgeFrame(open=codec.pack_request(coupled)), pb.EdgeFrame(draft_tree=codec.pack_hint(Hint(1, tree)))),
    }


def fuzzed(stream: tuple[pb.EdgeFrame, ...], seed: int) -> tuple[list[bytes], bool]:
    """The stream with one of its frames marred, and its Close; and whether that frame's seal still fits, so that it is read."""
    rng = random.Random(seed)
    messages = [*stream, pb.EdgeFrame(close=pb.Close())]
    which = rng.randrange(len(stream))
    payloads = [message.SerializeToString() for message in messages]
    if rng.random() < 0.35:
        frames = [sealed(payload, number) for number, payload in enumerate(payloads)]
        frames[which] = _marred_bytes(frames[which], rng)
        return frames, frames[which] == sealed(payloads[which], which)
    if rng.random() < 0.3:
        payloads[which] = _marred_bytes(payloads[which], rng)
    else:
        message = pb.EdgeFrame()
        message.CopyFrom(messages[which])
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            _mar_field(rng.choice([*_within(message)]), rng)
        payloads[which] = message.SerializeToString()
    return [sealed(payload, number) for number, payload in enumerate(payloads)], True


def _marred_bytes(data: bytes, rng: random.Random) -> bytes:
    match rng.randrange(6):
        case 0 if data:
            marred = bytearray(data)
            marred[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(marred)
        case 1:
            return data[: rng.randrange(len(data) + 1)]
        case 2:
            return data + rng.randbytes(rng.choice((1, 5, 300)))
        case 3:
            at = rng.randrange(len(data) + 1)
            return data[:at] + rng.randbytes(rng.randrange(1, 9)) + data[at:]
        case 4:
            first, last = sorted(rng.randrange(len(data) + 1) for _ in range(2))
            return data[:first] + data[last:]
    return rng.randbytes(rng.choice((0, 1, 64, 4096)))


def _within(message: Message) -> Iterator[Message]:
    """It and every message that it holds."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for held in value if field.is_repeated else (value,):
                yield from _within(held)


def _mar_field(message: Message, rng: random.Random) -> None:
    if not message.DESCRIPTOR.fields:
        return
    field = rng.choice(message.DESCRIPTOR.fields)
    if field.message_type is not None:
        _mar_held(message, field, rng)
    elif rng.random() < 0.15:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _value(field, getattr(message, field.name), rng))


def _mar_held(message: Message, field: FieldDescriptor, rng: random.Random) -> None:
    if rng.random() < 0.3:
        message.ClearField(field.name)
    elif field.is_repeated:
        for _ in range(rng.choice((1, 3, 400))):
            _mar_field(getattr(message, field.name).add(), rng)
    else:
        held = getattr(message, field.name)
        held.SetInParent()
        _mar_field(held, rng)


def _value(field: FieldDescriptor, now: object, rng: random.Random) -> object:
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_BOOL:
            return rng.random() < 0.5
        case FieldDescriptor.CPPTYPE_DOUBLE | FieldDescriptor.CPPTYPE_FLOAT:
            return rng.choice(_REALS)
        case FieldDescriptor.CPPTYPE_STRING:
            if field.type == FieldDescriptor.TYPE_BYTES:
                return _marred_bytes(now if isinstance(now, bytes) else b"", rng)
            return rng.choice(_TEXTS)
        case FieldDescriptor.CPPTYPE_UINT64:
            return rng.getrandbits(64)
    return rng.choice((*_NUMBERS, rng.getrandbits(8)))
