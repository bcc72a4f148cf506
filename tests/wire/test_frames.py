"""A frame opens if it is the one that was sent next, as it was sent, and no other does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.errors import Damaged, InvalidInput
from cactus_core.wire import frames
from cactus_core.wire.frames import Inbox, Outbox
from cactus_core.wire.v1 import speculation_pb2 as pb

payloads = st.binary(max_size=300)


def messages(texts):
    return [pb.EdgeFrame(open=pb.Open(prompt_varints=text)) for text in texts]


@given(st.lists(payloads, max_size=6), st.booleans())
def test_frames_open_in_the_order_they_were_sealed_in(texts, padded):
    outbox, inbox = Outbox(padded=padded), Inbox()
    for message in messages(texts):
        frame = outbox.seal(message)
        read = frames.edge_frame(inbox.open(frame))
        assert read.open == message.open
        assert not padded or len(frame).bit_count() == 1
        whole = pb.EdgeFrame.FromString(frame)  # to whoever knows the proto alone it is a message with a checksum
        assert whole.checksum == int.from_bytes(frame[-4:], "little")


@given(payloads, st.integers(0, 5000), st.data())
def test_no_bit_may_be_flipped_and_no_byte_be_missing_or_added(payload, number, data):
    frame = frames.sealed(payload, number)
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(frame) - 1))
    for other in (bytes(flipped), frame[:cut], frame[cut + 1 :], frame + b"\0"):
        with pytest.raises(Damaged, match="open the stream again"):
            frames.unsealed(other, number)
    assert frames.unsealed(frame, number) == payload


@given(st.lists(payloads, min_size=2, max_size=6), st.data())
def test_a_frame_that_is_doubled_lost_or_overtaken_does_not_open(texts, data):
    outbox = Outbox()
    sealed = [outbox.seal(message) for message in messages(texts)]
    place = data.draw(st.integers(0, len(sealed) - 2))
    for arrived in (
        [*sealed[: place + 1], *sealed[place:]],
        [*sealed[:place], *sealed[place + 1 :]],
        [*sealed[:place], sealed[place + 1], sealed[place], *sealed[place + 2 :]],
    ):
        inbox, num_opened = Inbox(), 0
        with pytest.raises(Damaged):  # noqa: PT012  # how many of them opened is the point
            for frame in arrived:
                inbox.open(frame)
                num_opened += 1
        assert num_opened <= place + 1


def test_bytes_that_are_no_message_are_told_from_damaged_ones():
    for read in (frames.edge_frame, frames.cloud_frame):
        with pytest.raises(InvalidInput, match="same version"):
            read(b"\xff\xff\xff")
