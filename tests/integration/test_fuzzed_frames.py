"""Frames of every kind of wrong, by the thousand: each stream ends with one status that tells whose fault it is, and a client beside
them notices nothing.

CACTUS_FUZZED_FRAMES is how many; the default is for every run, the slow test's hundred thousand takes some minutes.
"""

import asyncio
import os
from collections import Counter

import grpc
import grpc.aio
import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cactus_core.session import Limits
from cloud.service import VerifierServer
from cloud.serving import SERVICE
from cluster.access.admission import Admission
from cluster.access.security import Security
from cluster.access.tenants import digest_of
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.completer import Completer
from edge.completion import Completion
from edge.credentials import Credentials
from edge.link import Endpoint
from tests.integration.fuzzing import fuzzed, good_frames

FEW = int(os.environ.get("CACTUS_FUZZED_FRAMES", "2000"))
AT_ONCE = 32
TOKEN = "a-token-that-is-known-to-this-test"
PATIENCE_S = 60.0
CODE = grpc.StatusCode
DAMAGED = {CODE.DATA_LOSS}
# Of what can be read: it may be good after all, or wrong in a way that its sender is told. Nothing else: none is an error of ours.
READ = {CODE.OK, CODE.INVALID_ARGUMENT, CODE.FAILED_PRECONDITION, CODE.RESOURCE_EXHAUSTED, CODE.ABORTED, CODE.UNIMPLEMENTED}


async def ending_of(channel, frames):
    """The status of a stream that says all of `frames`. A call that ends while it is written to does not always tell how, in
    this library of the client's: then once more.
    """
    for _ in range(20):
        code, details = await once(channel, frames)
        if details != "Internal error from Core":
            break
    return code, details


async def once(channel, frames):
    call = channel.stream_stream(f"/{SERVICE}/Speculate")(metadata=(("authorization", f"Bearer {TOKEN}"),))

    async def say():
        for frame in frames:
            await call.write(frame)
        await call.done_writing()

    saying = asyncio.create_task(say())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await call.read() is not grpc.aio.EOF:
                pass
            return await call.code(), await call.details()
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def text_of(client, seed):
    completion = Completion("w5 w2")
    settings = {"max_tokens": 48, "sampling": SamplingParams(0.8), "seed": seed, "acceptance": Acceptance(COUPLED)}
    async for _ in client.generate(completion, **settings):
        pass
    return [token.id for token in completion.tokens]


async def fuzz(pair, count, through_gateway, folder):
    """A tenant without quotas: what a host may open without one is a matter of other tests."""
    (folder / "token").write_text(TOKEN, "ascii")
    (folder / "tenants.toml").write_text(f'[tenants.fuzz]\ntokens_sha256 = ["{digest_of(TOKEN)}"]\n', "utf8")
    streams = [*good_frames(pair.tokenizer().fingerprint).values()]
    security = Security(tenants=folder / "tenants.toml", admission=Admission(opens_per_s=1e9, opens_burst=1e9))
    seen = Counter()
    async with VerifierServer(str(pair.target), "127.0.0.1:0", memory_gib=0.01) as verifier:
        await verifier.loaded()
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"]), security) as gateway:
            await gateway.ready()
            port = gateway.port if through_gateway else verifier.port
            credentials = Credentials(token_file=folder / "token")
            async with (
                Endpoint(f"127.0.0.1:{port}", credentials=credentials) as endpoint,
                grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
            ):
                beside = Completer(endpoint, pair.tokenizer(), pair.drafter())
                expected = [await text_of(beside, seed) for seed in range(4)]
                seeds = iter(range(count))

                async def send():
                    for seed in seeds:
                        frames, is_readable = fuzzed(streams[seed % len(streams)], seed)
                        code, details = await ending_of(channel, frames)
                        assert code in (READ if is_readable else DAMAGED), (seed, code, details)
                        assert code is CODE.OK or (details and "\n" not in details), seed
                        seen[code] += 1

                async def witness():
                    num_seen = 0
                    while not sending.done():
                        assert await text_of(beside, num_seen % 4) == expected[num_seen % 4]
                        num_seen += 1
                    return num_seen

                async with asyncio.TaskGroup() as group:
                    sending = asyncio.gather(*(group.create_task(send()) for _ in range(AT_ONCE)))
                    beside_task = group.create_task(witness())
                assert beside_task.result() > 0
                async with asyncio.timeout(30):
                    while verifier.engine.num_sessions:  # noqa: ASYNC110  # the engine tells nobody
                        await asyncio.sleep(0.01)
                assert verifier.engine.num_free_pages == verifier.engine.num_pages
                assert await text_of(beside, 0) == expected[0]
    assert sum(seen.values()) == count
    return seen


@pytest.mark.parametrize("through_gateway", [False, True], ids=["verifier", "gateway"])
async def test_fuzzed_frames_get_one_right_status_each(small_pair, through_gateway, tmp_path):
    seen = await fuzz(small_pair, FEW // 2, through_gateway, tmp_path)
    assert {CODE.OK, CODE.INVALID_ARGUMENT, CODE.DATA_LOSS} <= seen.keys()


@pytest.mark.slow
@pytest.mark.parametrize("through_gateway", [False, True], ids=["verifier", "gateway"])
async def test_a_hundred_thousand_do(small_pair, through_gateway, tmp_path):
    print(await fuzz(small_pair, 50_000, through_gateway, tmp_path))


def test_what_is_fuzzed_is_good_before(small_pair):
    limits = Limits()
    for stream in good_frames(small_pair.tokenizer().fingerprint).values():
        assert all(frame.ByteSize() < limits.max_frame_bytes and frame.IsInitialized() for frame in stream)
