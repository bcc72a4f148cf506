"""What a gateway reads of the messages that it passes on: the first up, and each one down.

The one place that knows what lies in their bytes there; knows nothing of frames, or of what is done with what it reads.
"""

from __future__ import annotations

from cactus_core.errors import InvalidInput, Unavailable
from cactus_core.wire.frames import cloud_frame, edge_frame
from cactus_core.wire.v1 import speculation_pb2 as pb

CLOSE = pb.EdgeFrame(close=pb.Close()).SerializeToString()


def opening_in(payload: bytes) -> pb.Open:
    """Raises `InvalidInput` for any other message."""
    read = edge_frame(payload)
    if read.WhichOneof("kind") != "open":
        raise InvalidInput("a stream must begin with Open")
    return read.open


def payload_of(opening: pb.Open) -> bytes:
    return pb.EdgeFrame(open=opening).SerializeToString()


def decision_in(payload: bytes) -> pb.Decision | None:
    """None: it is the answer to Open. Raises `Unavailable` for what cannot be read."""
    try:
        read = cloud_frame(payload)
    except InvalidInput:
        raise Unavailable("the verifier is not to be understood; send the request again") from None
    return read.decision if read.WhichOneof("kind") == "decision" else None
