"""What a message that passes by says of itself: enough to count it by.

Knows the wire's messages; knows nothing of streams or quotas.
"""

from __future__ import annotations

import numpy as np
from google.protobuf.message import DecodeError

from cactus_core.wire.v1 import speculation_pb2 as pb


def cloud_frame(frame: bytes) -> pb.CloudFrame | None:
    """None for bytes that are no frame: that is between the verifier and the edge."""
    try:
        return pb.CloudFrame.FromString(frame)
    except DecodeError:
        return None


def num_asked(opening: pb.Open) -> int:
    """Tokens of prompt and committed text that the model is to read: each ends in a byte below 128."""
    return sum(int(np.count_nonzero(np.frombuffer(each, np.uint8) < 128)) for each in (opening.prompt_varints, opening.committed_varints))


def num_emitted(decision: pb.Decision) -> int:
    return decision.num_accepted + decision.HasField("final_token")


def without_drafts(message: pb.EdgeFrame) -> bytes:
    """The bytes of the DraftTree with no nodes: it asks for what it asked for, and is waited for as it was. The text stays the same,
    since under the rule "coupled" it never depends on drafts.
    """
    plain = pb.EdgeFrame()
    plain.CopyFrom(message)
    plain.draft_tree.num_nodes = 0
    plain.draft_tree.packed = b""
    return plain.SerializeToString()
