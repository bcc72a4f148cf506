"""Both ends of a stream as a test may play them: any message, in any order, sealed as a frame must be."""

from __future__ import annotations

from cactus_core.wire.frames import Inbox, Outbox, cloud_frame, edge_frame
from cloud.serving import SERVICE, speculation_handler


class RawStream:
    """Messages up and down. `frames` are sent at once, and none after them."""

    def __init__(self, channel, frames=None, metadata=None):
        self.outbox, self.inbox = Outbox(), Inbox()
        said = None if frames is None else iter([self.outbox.seal(frame) for frame in frames])
        self.call = channel.stream_stream(f"/{SERVICE}/Speculate")(said, metadata=metadata)

    def __getattr__(self, name):
        return getattr(self.call, name)

    async def write(self, frame):
        await self.call.write(self.outbox.seal(frame))

    async def read(self):
        """`grpc.aio.EOF` at the end."""
        frame = await self.call.read()
        return cloud_frame(self.inbox.open(frame)) if isinstance(frame, bytes) else frame

    async def __aiter__(self):
        async for frame in self.call:
            yield cloud_frame(self.inbox.open(frame))


def sealing_handler(stub):
    """A handler for `stub`, whose `Speculate` takes and yields messages."""

    async def messages(frames):
        inbox = Inbox()
        async for frame in frames:
            yield edge_frame(inbox.open(frame))

    async def speculate(frames, context):
        outbox = Outbox()
        async for message in stub.Speculate(messages(frames), context):
            yield outbox.seal(message)

    return speculation_handler(speculate, stub.Describe)
