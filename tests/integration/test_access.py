"""Access with real parts: whatever the gateway leaves out, cuts or refuses, a text that is written is the text."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from cactus_core.acceptance import Acceptance
from cactus_core.errors import LimitExceeded, Unauthenticated, Unavailable
from cactus_core.rules import COUPLED
from cactus_core.sampling import SamplingParams
from cloud.certificates import ServerCertificates
from cloud.service import VerifierServer
from cluster.access.security import Security
from cluster.gateway import GatewayServer
from cluster.router import Router
from edge.completer import Completer, Drafting
from edge.completion import Completion
from edge.credentials import Credentials
from edge.link import Endpoint
from edge.tuning.plan import TreePlan
from tests.cluster.access.authority import Authority
from tests.cluster.access.stub_verifier import with_token
from tests.cluster.access.test_tenants import tenants_file

NUM_TOKENS = 60


@asynccontextmanager
async def gateway_before(target, security):
    async with VerifierServer(str(target), "127.0.0.1:0", memory_gib=0.05) as verifier:
        await verifier.loaded()
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"]), security) as gateway:
            await gateway.ready()
            yield gateway


async def text_at(gateway, pair, credentials, *, drafts=True, patience_s=30.0):
    """The tokens of one request, and how often it was resumed."""
    completion = Completion("w5 w3")
    async with Endpoint(f"127.0.0.1:{gateway.port}", credentials=credentials) as endpoint:
        drafting = Drafting(tree=TreePlan(12, 8, 0.02), patience_s=patience_s)
        client = Completer(endpoint, pair.tokenizer(), pair.drafter() if drafts else None, drafting)
        acceptance, sampling = Acceptance(COUPLED), SamplingParams(temperature=1.0)
        async for _ in client.generate(completion, max_tokens=NUM_TOKENS, sampling=sampling, seed=3, acceptance=acceptance):
            pass
    return [token.id for token in completion.tokens], completion.summary


async def test_a_text_is_the_same_by_tls_over_quota_and_with_its_drafts_left_out(small_pair, tmp_path):
    authority = Authority(tmp_path)
    pair = authority.signs("gateway")
    tight = "positions_per_s = 100\npositions_burst = 80"  # some 300 are asked for, within 3 seconds even where much else runs
    file = tenants_file(tmp_path, tight, tight=["tight"])
    content = file.read_text() + "\n"
    content += tenants_file(tmp_path, "waste_window = 12\nleast_accepted = 1.1", wasteful=["wasteful"]).read_text() + "\n"
    file.write_text(content + tenants_file(tmp_path, free=["free"]).read_text())
    certificates = ServerCertificates(pair.certificate, pair.key)

    def tenant(name):
        return Credentials(ca=authority.certificate, token_file=with_token(tmp_path, name).token_file)

    async with gateway_before(small_pair.target, Security(certificates, file)) as gateway:
        reference, _ = await text_at(gateway, small_pair, tenant("free"), drafts=False)
        for name in ("free", "wasteful", "tight"):
            tokens, summary = await text_at(gateway, small_pair, tenant(name))
            assert tokens == reference
            assert (summary.num_resumes > 0) == (name == "tight")
        with pytest.raises(Unauthenticated):
            await text_at(gateway, small_pair, tenant("stranger"))


async def test_a_quota_that_outlasts_patience_ends_the_request(small_pair, tmp_path):
    file = tenants_file(tmp_path, "positions_per_s = 0.1\npositions_burst = 10", acme=["token"])
    async with gateway_before(small_pair.target, Security(tenants=file)) as gateway:
        with pytest.raises(LimitExceeded, match=r"acme is over its 0\.1 positions a second"):
            await text_at(gateway, small_pair, with_token(tmp_path, "token"))


async def test_a_verifier_is_reached_by_mutual_tls(small_pair, tmp_path):
    authority = Authority(tmp_path)
    own, shown = authority.signs("verifier"), authority.signs("gateway")
    certificates = ServerCertificates(own.certificate, own.key, authority.certificate)
    async with VerifierServer(str(small_pair.target), "127.0.0.1:0", memory_gib=0.01, certificates=certificates) as verifier:
        await verifier.loaded()
        _, summary = await text_at(verifier, small_pair, Credentials(authority.certificate, shown.certificate, shown.key))
        assert summary.num_tokens
        by_tls = Security(to_replicas=Credentials(authority.certificate, shown.certificate, shown.key))
        async with GatewayServer("127.0.0.1:0", Router([f"127.0.0.1:{verifier.port}"]), by_tls) as gateway:
            await gateway.ready()
            _, summary = await text_at(gateway, small_pair, None)
            assert summary.num_tokens
        with pytest.raises(Unavailable, match="asks for a certificate"):
            await text_at(verifier, small_pair, Credentials(authority.certificate))
