"""Tokens: who is let in, how they are rotated, and that they are never told."""

from __future__ import annotations

import logging
import textwrap
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cactus_core.errors import InvalidInput, Unauthenticated
from cluster.access.admission import Admission
from cluster.access.quotas import Quota
from cluster.access.security import Security
from cluster.access.tenants import Tenants, digest_of
from edge.credentials import Credentials
from tests.cluster.access.stub_verifier import endpoint_of, gateway_before, served, with_token

SECRET = "s3cret-of-acme"
OTHER = "s3cret-of-other"


def tenants_file(folder, quotas="", **tokens):
    lines = [f"[tenants.{name}]\ntokens_sha256 = {[digest_of(each) for each in of]}\n{quotas}" for name, of in tokens.items()]
    file = folder / "tenants.toml"
    file.write_text("\n".join(lines).replace("'", '"'))
    return file


@pytest.fixture
def two_tenants(tmp_path):
    return Security(tenants=tenants_file(tmp_path, acme=[SECRET], other=[OTHER]))


async def test_a_token_lets_its_tenant_in_and_nothing_else_does(stub, two_tenants, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    async with gateway_before(stub, two_tenants) as gateway, endpoint_of(gateway, with_token(tmp_path, SECRET)) as beside:
        for credentials, says in ((None, "--token-file"), (with_token(tmp_path, "guessed-token"), "not known here")):
            async with endpoint_of(gateway, credentials) as endpoint:
                for ask in (endpoint.describe, lambda there=endpoint: served(there)):
                    with pytest.raises(Unauthenticated, match=says) as refusal:
                        await ask()
                    assert "guessed-token" not in str(refusal.value)
        assert (await beside.describe()).model == "stub"
        assert await served(beside) == [7] * 4
    assert stub.tenants == ["acme"]
    assert "refused" in caplog.text
    assert not any(secret in caplog.text for secret in (SECRET, "guessed-token", digest_of(SECRET)))


async def test_tokens_are_rotated_without_a_restart(stub, two_tenants, tmp_path):
    async with (
        gateway_before(stub, two_tenants) as gateway,
        endpoint_of(gateway, with_token(tmp_path, SECRET)) as old,
        endpoint_of(gateway, with_token(tmp_path, "the-next-one")) as new,
        endpoint_of(gateway, with_token(tmp_path, OTHER)) as beside,
    ):
        with pytest.raises(Unauthenticated):
            await served(new)
        tenants_file(tmp_path, acme=[SECRET, "the-next-one"], other=[OTHER])
        assert await served(old) == await served(new) == [7] * 4
        tenants_file(tmp_path, acme=["the-next-one"], other=[OTHER])
        with pytest.raises(Unauthenticated, match="no longer"):
            await served(old)
        assert await served(new) == await served(beside) == [7] * 4


async def test_an_edge_takes_up_a_new_token_between_two_streams(stub, two_tenants, tmp_path):
    credentials = with_token(tmp_path, SECRET)
    async with gateway_before(stub, two_tenants) as gateway, endpoint_of(gateway, credentials) as endpoint:
        await served(endpoint)
        credentials.token_file.write_text(OTHER)
        await served(endpoint)
    assert stub.tenants == ["acme", "other"]


async def test_a_broken_file_leaves_the_tenants_as_they_were_and_is_said_once(stub, two_tenants, tmp_path, caplog):
    async with gateway_before(stub, two_tenants) as gateway, endpoint_of(gateway, with_token(tmp_path, SECRET)) as endpoint:
        two_tenants.tenants.write_text(f"[tenants.acme\ntokens = {SECRET}")
        for _ in range(3):
            assert await served(endpoint) == [7] * 4
    assert len([record for record in caplog.records if "the tenants of before stay in force" in record.message]) == 1
    assert SECRET not in caplog.text


async def test_the_environment_may_hold_the_token(stub, two_tenants, monkeypatch):
    monkeypatch.setenv("CACTUS_TOKEN", OTHER)
    async with gateway_before(stub, two_tenants) as gateway, endpoint_of(gateway) as endpoint:
        assert await served(endpoint) == [7] * 4
    assert stub.tenants == ["other"]


async def test_health_needs_no_token(stub, two_tenants):
    async with gateway_before(stub, two_tenants) as gateway, grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()


async def test_tokens_in_plain_text_are_for_loopback_alone(tmp_path):
    file = tenants_file(tmp_path, acme=[SECRET])
    with pytest.raises(InvalidInput, match="in plain text"):
        Security(tenants=file).check("0.0.0.0:7800")
    Security(tenants=file, insecure_tokens=True).check("0.0.0.0:7800")
    for here in ("127.0.0.1:0", "localhost:7800", "[::1]:7800"):
        Security(tenants=file).check(here)
    token_file = with_token(tmp_path, SECRET).token_file
    with pytest.raises(InvalidInput, match="in plain text") as refusal:
        Credentials(token_file=token_file).metadata("gateway.example:7800")
    assert SECRET not in str(refusal.value)
    assert Credentials(token_file=token_file, insecure_tokens=True).metadata("gateway.example:7800")


@pytest.mark.parametrize("content", ["", "two words", "line\nline", "ümlaut"])
def test_what_is_no_token_is_refused_without_being_told(tmp_path, content):
    file = tmp_path / "token"
    file.write_text(content, "utf8")
    with pytest.raises(InvalidInput) as refusal:
        Credentials(token_file=file).metadata("127.0.0.1:1")
    assert not content or content not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tenants", "is not TOML"),
        ("", "names no tenant"),
        ("[tenants.a]\n[other]", "unknown table 'other'"),
        ('[tenants.a]\ntokens_sha256 = ["short"]', "not tokens"),
        ('[tenants.a]\ntokens_sha256 = "x"', "a list of digests"),
        ("[tenants.a]\npositions = 3", "takes positions_per_s"),
        ("[tenants.a]\nnum_streams = -1", "num_streams must be a number of 0 or more"),
        ("[tenants.a]\nnum_streams = 'x'", "num_streams must be a number"),
        ("[tenants.a]\nopens_per_s = 3", "go together"),
        ("[tenants.a]\nnum_streams = 0", "would let nothing through"),
        ("[tenants.a]\n[admission]\nidle_s = 0", "idle_s must be a number above 0"),
        ("tenants = 3", "names no tenant"),
        ("tenants.a = 3", "is not a table"),
    ],
)
def test_a_file_that_does_not_hold_together_says_where(text, says):
    with pytest.raises(InvalidInput, match=says) as refusal:
        Tenants.parse(text, "tenants.toml")
    assert str(refusal.value).startswith("tenants.toml")


def test_the_example_in_security_md_is_taken_and_shows_the_defaults():
    page = (Path(__file__).parents[3] / "SECURITY.md").read_text("utf8")
    example = page[page.index("    # tenants.toml") : page.index("A quota that is left out")].replace("13bca7e2…", "0" * 64)
    tenants = Tenants.parse(textwrap.dedent(example), "SECURITY.md")
    assert tenants.admission == Admission()
    acme, default = tenants.by_name["acme"].quota, Quota()
    assert acme.num_positions == 400_000
    for name in ("least_accepted", "waste_window", "throttled_s"):
        assert f"{name} = {getattr(default, name):g}" in example


def test_a_tenant_is_never_shown_with_its_digests():
    tenants = Tenants.parse(f'[tenants.a]\ntokens_sha256 = ["{digest_of(SECRET)}"]', "file")
    assert tenants.of_token(SECRET).name == "a"
    assert digest_of(SECRET) not in repr(tenants)
