"""Padded frames are of few sizes, and say what they said before."""

from hypothesis import example, given
from hypothesis import strategies as st

from cactus_core.wire.padding import pad, size_class
from cactus_core.wire.v1 import speculation_pb2 as pb


@given(st.integers(0, 5000), st.booleans(), st.integers(0, 5))
@example(117, False, 5)  # for which neither its class nor the next has an exact fit
def test_a_padded_frame_is_as_long_as_its_class_and_says_the_same(num_bytes, is_up, num_more):
    frame = (
        pb.EdgeFrame(open=pb.Open(prompt_varints=bytes(num_bytes)))
        if is_up
        else pb.CloudFrame(decision=pb.Decision(accepted_varints=bytes(num_bytes)))
    )
    before = frame.ByteSize() + num_more
    padded = type(frame)()
    padded.CopyFrom(frame)
    pad(padded, num_more)
    size = padded.ByteSize() + num_more
    assert size == size_class(size)
    assert size in (size_class(before), 2 * size_class(before), 4 * size_class(before))
    read = type(frame).FromString(padded.SerializeToString())
    read.ClearField("padding")
    assert read == frame


@given(st.integers(1, 1 << 20))
def test_classes_are_powers_of_two(num_bytes):
    size = size_class(num_bytes)
    assert size >= max(num_bytes, 64)
    assert size & (size - 1) == 0
    assert size == 64 or size < 2 * num_bytes
