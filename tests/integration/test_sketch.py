"""What a gateway's router takes for a hit is one at the verifier: both know pages by the tenant whose text it was."""

from __future__ import annotations

import numpy as np

from cactus_core.acceptance import Acceptance
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cloud.pages import PAGE_SIZE
from cloud.service import VerifierServer
from cluster.access.security import Security
from cluster.gateway import GatewayServer
from cluster.load_meter import LoadMeter
from cluster.router import Opening, Router
from cluster.routing import Replica, Routes, keys_of
from edge.completer import Completer
from edge.completion import Completion
from tests.cluster.access.stub_verifier import endpoint_of, with_token
from tests.cluster.access.test_tenants import tenants_file

_NAMES = "acme", "société"  # as people are called
_TENANTS = {f'"{name}"': [f"token-{number}"] for number, name in enumerate(_NAMES)}
_PROMPT = " ".join(f"w{1 + i * i % 7}" for i in range(3 * PAGE_SIZE + 1))


async def written(pair, gateway, credentials):
    """The tokens of the prompt, after its text was written."""
    async with endpoint_of(gateway, credentials) as endpoint:
        client, completion = Completer(endpoint, pair.tokenizer(), None), Completion(_PROMPT)
        async for _ in client.generate(completion, max_tokens=2, sampling=SamplingParams(), seed=1, acceptance=Acceptance(COUPLED)):
            pass
    return np.array(pair.tokenizer().encode(_PROMPT))


async def test_a_sketch_tells_of_a_tenants_own_pages_and_where_it_tells_of_them_they_are_found(small_pair, tmp_path):
    security = Security(tenants=tenants_file(tmp_path, **_TENANTS))
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.05) as verifier:
        await verifier.loaded()
        address, meter = f"127.0.0.1:{verifier.port}", LoadMeter(verifier.engine, 0.0)
        async with GatewayServer("127.0.0.1:0", Router([address]), security) as gateway:
            await gateway.ready()
            for number, tenant in enumerate(_NAMES):
                text = await written(small_pair, gateway, with_token(tmp_path, f"token-{number}"))
                assert verifier.engine.tally.num_found == 0  # nothing of the other tenant's
                load = meter.read(1.0)
                assert load.prefixes >= {*keys_of(text, tenant)}
                if number == 0:
                    assert not load.prefixes & {*keys_of(text, _NAMES[1])}
                    # A router that hears of it sends this tenant's text there, and has no reason to send another's.
                    router = Router()
                    router.follow(Routes(("m",), (Replica("empty", "m"), Replica(address, "m", load))))
                    known = [router._candidate(router.serving()[1], keys_of(text, each)).num_known for each in _NAMES]
                    assert known == [3 * PAGE_SIZE, 0]
                    assert router.choose(Opening(tenant, "m", text, has_begun=True)) == address
            await written(small_pair, gateway, with_token(tmp_path, "token-0"))
            assert verifier.engine.tally.num_found == 3 * PAGE_SIZE
