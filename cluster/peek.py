"""What a gateway reads of the frames that it passes on: the first up, and each one down.

The one place that knows how frames lie in bytes there; knows nothing of what is done with them.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.wire.v1 import speculation_pb2 as pb

CLOSE = pb.EdgeFrame(close=pb.Close()).SerializeToString()


def opening_in(frame: bytes) -> pb.Open:
    """Raises `InvalidInput` for any other frame."""
    try:
        read = pb.EdgeFrame.FromString(frame)
    except DecodeError:
        raise InvalidInput("a frame is no EdgeFrame; install the same version of Cactus on both sides") from None
    if read.WhichOneof("kind") != "open":
        raise InvalidInput("a stream must begin with Open")
    return read.open


def frame_of(opening: pb.Open) -> bytes:
    return pb.EdgeFrame(open=opening).SerializeToString()


def decision_in(frame: bytes) -> pb.Decision | None:
    """None: it is the answer to Open. Raises `Unavailable` for what cannot be read."""
    try:
        read = pb.CloudFrame.FromString(frame)
    except DecodeError:
        raise Unavailable("the verifier is not to be understood; send the request again") from None
    return read.decision if read.WhichOneof("kind") == "decision" else None
