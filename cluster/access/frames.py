"""What a frame that passes by says of itself: enough to count it by, whether it comes as bytes or as a message.

Knows the wire's messages; knows nothing of streams or quotas.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from google.protobuf.message import DecodeError

from cactus_core.errors import InvalidInput
from cactus_core.wire.v1 import speculation_pb2 as pb

F = TypeVar("F", bytes, pb.EdgeFrame)


def edge_frame(frame: bytes | pb.EdgeFrame) -> pb.EdgeFrame:
    """Raises `InvalidInput` for bytes that are no frame."""
    if isinstance(frame, pb.EdgeFrame):
        return frame
    try:
        return pb.EdgeFrame.FromString(frame)
    except DecodeError:
        raise InvalidInput("a frame came that is no EdgeFrame; install the same version of Cactus on both sides") from None


def cloud_frame(frame: bytes | pb.CloudFrame) -> pb.CloudFrame | None:
    """None for bytes that are no frame: that is between the verifier and the edge."""
    if isinstance(frame, pb.CloudFrame):
        return frame
    try:
        return pb.CloudFrame.FromString(frame)
    except DecodeError:
        return None


def num_asked(opening: pb.Open) -> int:
    """Tokens of prompt and committed text that the model is to read: each ends in a byte below 128."""
    return sum(int(np.count_nonzero(np.frombuffer(each, np.uint8) < 128)) for each in (opening.prompt_varints, opening.committed_varints))


def num_emitted(decision: pb.Decision) -> int:
    return decision.num_accepted + decision.HasField("final_token")


def without_drafts(frame: F) -> F:
    """The DraftTree with no nodes: it asks for what it asked for, and is waited for as it was. The text stays the same, since under
    the rule "coupled" it never depends on drafts.
    """
    plain = pb.EdgeFrame()
    plain.CopyFrom(edge_frame(frame))
    plain.draft_tree.num_nodes = 0
    plain.draft_tree.packed = b""
    return plain.SerializeToString() if isinstance(frame, bytes) else plain
