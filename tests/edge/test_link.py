from typing import Any

import grpc.aio
import pytest

from edge.link import Link


class Ending:
    """A call that its other side ends while the edge says that it is done."""

    def __init__(self, failing: str, error: Exception) -> None:
        self._failing, self._error = failing, error
        self.asked: list[str] = []

    async def _do(self, name: str) -> None:
        self.asked.append(name)
        if name == self._failing:
            raise self._error

    async def write(self, frame: bytes) -> None:
        assert frame
        await self._do("write")

    async def done_writing(self) -> None:
        await self._do("done_writing")

    async def read(self) -> object:
        await self._do("read")
        return grpc.aio.EOF


@pytest.mark.parametrize("failing", ["write", "done_writing", "read"])
async def test_a_stream_that_ends_by_itself_while_it_is_ended_is_no_failure(failing: str) -> None:
    call: Any = Ending(failing, grpc.aio.InternalError("Failed execute_batch"))
    await Link(call).end()
    assert call.asked[-1] == failing
