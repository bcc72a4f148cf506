"""Frames of few sizes: on an encrypted link the sizes of frames tell how many tokens were drafted and stood, and with that of the text
(Wei et al., "Privacy risks of speculative decoding in LLMs", arXiv 2411.01076).

A padded frame is as long as its class, a power of two of bytes from 64 on. When frames are sent, and how many, still shows.
Knows frames and sizes; knows nothing of what is in them.
"""

from __future__ import annotations

from cactus_core.wire.v1 import speculation_pb2 as pb

SMALLEST = 64


def size_class(num_bytes: int) -> int:
    """The least class of at least so many bytes."""
    return max(SMALLEST, 1 << (num_bytes - 1).bit_length())


def pad(frame: pb.EdgeFrame | pb.CloudFrame, num_more: int) -> None:
    """Makes the frame, with so many bytes more after it, as long as its class. Mutates it."""
    num_bytes = frame.ByteSize() + num_more
    whole = size_class(num_bytes)
    if whole == num_bytes:
        return
    # The field's own tag and length take two bytes of it, or more: where that leaves no exact fit, one of the next classes has one.
    for size in (whole, 2 * whole, 4 * whole):
        for num_header in (2, 3, 4):
            frame.padding = bytes(max(size - num_bytes - num_header, 0))
            if frame.ByteSize() + num_more == size:
                return
