"""TLS and mutual TLS at the gateway, over real handshakes."""

from __future__ import annotations

import logging

import pytest

from cactus_core.errors import InvalidInput, Unauthenticated, Unavailable
from cloud.certificates import ServerCertificates
from cluster.access.security import Security
from edge.credentials import Credentials
from tests.cluster.access.authority import Authority
from tests.cluster.access.stub_verifier import endpoint_of, gateway_before, served
from tests.cluster.access.test_tenants import tenants_file


def secured(pair, client_ca=None, tenants=None):
    return Security(ServerCertificates(pair.certificate, pair.key, client_ca), tenants)


async def refused(gateway, credentials):
    """The line that an edge reads."""
    async with endpoint_of(gateway, credentials) as endpoint:
        with pytest.raises(Unavailable) as refusal:
            await endpoint.describe()
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


async def test_an_edge_that_knows_the_ca_is_served_by_tls(stub, authority):
    async with (
        gateway_before(stub, secured(authority.signs("gateway"))) as gateway,
        endpoint_of(gateway, Credentials(ca=authority.certificate)) as endpoint,
    ):
        assert (await endpoint.describe()).model == "stub"
        assert await served(endpoint) == [7] * 4


async def test_each_side_that_is_not_what_the_other_expects_is_told_in_one_line(stub, authority, tmp_path):
    ours = Credentials(ca=authority.certificate)
    async with gateway_before(stub, secured(authority.signs("gateway"))) as gateway, endpoint_of(gateway, ours) as beside:
        assert "speaks TLS" in await refused(gateway, None)
        assert "--tls-ca does not name" in await refused(gateway, Credentials(ca=Authority(tmp_path, "other").certificate))
        assert await served(beside) == [7] * 4
    async with gateway_before(stub) as gateway:
        assert "does not speak TLS" in await refused(gateway, ours)


async def test_certificates_are_replaced_without_a_restart(stub, authority, caplog):
    pair, ours = authority.signs("gateway"), Credentials(ca=authority.certificate)
    old = authority.signs("gateway", days_left=-1, file="old")
    async with gateway_before(stub, secured(pair)) as gateway, endpoint_of(gateway, ours) as beside:
        assert await served(beside) == [7] * 4
        with caplog.at_level(logging.ERROR):
            pair.replace(old)  # which is reported, and not taken
            async with endpoint_of(gateway, ours) as endpoint:
                assert await served(endpoint) == [7] * 4
        assert "has expired; get a new one; the last good certificates stay in use" in caplog.text
        other = Authority(authority.certificate.parent, "other")
        pair.replace(other.signs("gateway", file="new"))
        assert "--tls-ca does not name" in await refused(gateway, ours)
        async with endpoint_of(gateway, Credentials(ca=other.certificate)) as endpoint:
            assert await served(endpoint) == [7] * 4
        assert await served(beside) == [7] * 4  # whose connection is older


async def test_an_edge_is_told_that_the_gateways_certificate_has_expired(stub, authority, monkeypatch):
    old = authority.signs("gateway", days_left=-1)
    monkeypatch.setattr("cactus_core.certificates._fault_of_dates", lambda *_: None)  # as it would have been a day ago
    async with gateway_before(stub, secured(old)) as gateway:
        assert "has expired; whoever runs it must replace it" in await refused(gateway, Credentials(ca=authority.certificate))


async def test_mutual_tls_lets_in_whom_the_ca_signed_and_names_the_tenant(stub, authority, tmp_path):
    edge, stranger = authority.signs("edge-1"), Authority(tmp_path, "other").signs("edge-1", file="stranger")
    async with gateway_before(stub, secured(authority.signs("gateway"), authority.certificate)) as gateway:
        shown = Credentials(authority.certificate, edge.certificate, edge.key)
        async with endpoint_of(gateway, shown) as endpoint:
            assert await served(endpoint) == [7] * 4
            assert stub.tenants == ["certificate:edge-1"]
            assert "asks for a certificate" in await refused(gateway, Credentials(authority.certificate))
            foreign = Credentials(authority.certificate, stranger.certificate, stranger.key)
            assert "does not accept the certificate" in await refused(gateway, foreign)
            assert await served(endpoint) == [7] * 4


async def test_a_client_whose_certificate_expired_is_refused_at_both_ends(stub, authority, monkeypatch):
    old = authority.signs("edge-1", days_left=-1)
    shown = Credentials(authority.certificate, old.certificate, old.key)
    async with gateway_before(stub, secured(authority.signs("gateway"), authority.certificate)) as gateway:
        with pytest.raises(InvalidInput, match="has expired; get a new one"):
            async with endpoint_of(gateway, shown):
                pass
        monkeypatch.setattr("cactus_core.certificates._fault_of_dates", lambda *_: None)  # an edge that does not look
        assert "does not accept the certificate" in await refused(gateway, shown)


async def test_a_certificate_may_stand_for_a_token(stub, authority, tmp_path):
    tenants = tenants_file(tmp_path, acme=["any"])
    async with gateway_before(stub, secured(authority.signs("gateway"), authority.certificate, tenants)) as gateway:
        acme, other = authority.signs("acme"), authority.signs("other")
        async with endpoint_of(gateway, Credentials(authority.certificate, acme.certificate, acme.key)) as endpoint:
            assert await served(endpoint) == [7] * 4
        assert stub.tenants == ["acme"]
        async with endpoint_of(gateway, Credentials(authority.certificate, other.certificate, other.key)) as endpoint:
            with pytest.raises(Unauthenticated, match="'other' is no tenant here"):
                await served(endpoint)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("missing", "cannot read the certificate"),
        ("no PEM", "is not in PEM form"),
        ("another's key", "is not that of the certificate"),
        ("expired", "has expired"),
    ],
)
async def test_a_gateway_with_useless_certificates_does_not_start(stub, authority, fault, says):
    pair = authority.signs("gateway", days_left=-1 if fault == "expired" else 1)
    match fault:
        case "missing":
            pair.certificate.unlink()
        case "no PEM":
            pair.certificate.write_bytes(b"\x30\x82")
        case "another's key":
            pair.key.write_bytes(authority.signs("other").key.read_bytes())
    with pytest.raises(InvalidInput, match=says):
        async with gateway_before(stub, secured(pair)):
            pass


def test_half_a_pair_is_no_pair(tmp_path):
    with pytest.raises(InvalidInput, match="go together"):
        ServerCertificates.given(tmp_path, None, None)
    with pytest.raises(InvalidInput, match="go together"):
        Credentials(certificate=tmp_path, key=tmp_path)
