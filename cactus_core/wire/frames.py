"""The checksum that ends every frame of a stream, by which a frame that was damaged, doubled, lost or overtaken is known.

A frame is a message's bytes and, as its last field, the CRC-32 of these, begun at the frame's number in its direction of the stream. The
number itself is not sent: whoever reads counts, and what comes out of turn does not fit. Five bytes a frame.
Against chance, not against malice: for that there is TLS. Knows bytes and messages; knows nothing of what is in them.
"""

from __future__ import annotations

import zlib

from google.protobuf.message import DecodeError

from cactus_core.errors import Damaged, InvalidInput
from cactus_core.wire.padding import pad
from cactus_core.wire.v1 import speculation_pb2 as pb

SEAL_BYTES = 5
_TAG = bytes([pb.EdgeFrame.CHECKSUM_FIELD_NUMBER << 3 | 5])  # of a field of four bytes, as protobuf writes it


def sealed(payload: bytes, number: int) -> bytes:
    """The frame of a message's bytes: the `number`-th in its direction of the stream, counted from 0."""
    return payload + _TAG + zlib.crc32(payload, number).to_bytes(4, "little")


def unsealed(frame: bytes, number: int) -> bytes:
    """The message's bytes. Raises `Damaged` for anything but the `number`-th frame as it was sent."""
    payload, seal = frame[:-SEAL_BYTES], frame[-SEAL_BYTES:]
    if seal != _TAG + zlib.crc32(payload, number).to_bytes(4, "little"):
        raise Damaged("a frame was damaged, doubled or lost on its way; open the stream again with what was committed")
    return payload


def edge_frame(payload: bytes) -> pb.EdgeFrame:
    """Raises `InvalidInput` for bytes that are no such message."""
    try:
        return pb.EdgeFrame.FromString(payload)
    except DecodeError:
        raise InvalidInput("a frame is no EdgeFrame; install the same version of Cactus on both sides") from None


def cloud_frame(payload: bytes) -> pb.CloudFrame:
    """Raises `InvalidInput` for bytes that are no such message."""
    try:
        return pb.CloudFrame.FromString(payload)
    except DecodeError:
        raise InvalidInput("a frame is no CloudFrame; install the same version of Cactus on both sides") from None


class Outbox:
    """Seals what is sent in one direction of a stream. `padded`: the frames are of few sizes."""

    __slots__ = "_num_sent", "_padded"

    def __init__(self, *, padded: bool = False) -> None:
        self._padded, self._num_sent = padded, 0

    def seal(self, message: pb.EdgeFrame | pb.CloudFrame) -> bytes:
        """Mutates a message that is to be padded."""
        if self._padded:
            pad(message, SEAL_BYTES)
        return self.seal_payload(message.SerializeToString())

    def seal_payload(self, payload: bytes) -> bytes:
        self._num_sent += 1
        return sealed(payload, self._num_sent - 1)


class Inbox:
    """Opens what comes in one direction of a stream."""

    __slots__ = ("_num_read",)

    def __init__(self) -> None:
        self._num_read = 0

    def open(self, frame: bytes) -> bytes:
        """The message's bytes. Raises `Damaged` where this is not the frame that was sent next."""
        payload = unsealed(frame, self._num_read)
        self._num_read += 1
        return payload
