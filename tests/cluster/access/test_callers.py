"""Who is taken for whom, from what gRPC tells of a call."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from cluster.access.callers import Callers, network_of
from cluster.access.quotas import OF_A_HOST
from cluster.access.tenants import digest_of
from cluster.cli import app


def call_from(peer, *metadata, **auth):
    return SimpleNamespace(peer=lambda: peer, invocation_metadata=lambda: metadata, auth_context=lambda: auth)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        ("ipv4:192.0.2.7:51234", "ipv4:192.0.2.7"),
        ("ipv6:%5B2001:db8:1:2:aaaa::1%5D:51234", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:[2001:db8:1:2:bbbb::2]:9", "ipv6:2001:db8:1:2::/64"),
        ("ipv6:[::ffff:192.0.2.7]:9", "ipv4:192.0.2.7"),
        ("unix:/run/gateway", "unix"),
    ],
)
def test_a_caller_is_told_by_what_it_cannot_have_many_of(peer, network):
    assert network_of(call_from(peer)) == network


def test_without_tenants_a_certificate_is_somebody_and_a_claim_is_nobody():
    callers = Callers(None)
    claim = ("cactus-tenant", "acme"), ("authorization", "Bearer acme")
    unknown = callers.identify(call_from("ipv4:192.0.2.7:1", *claim))
    assert (unknown.name, unknown.quota) == ("ipv4:192.0.2.7", OF_A_HOST)
    assert callers.identify(call_from("ipv4:192.0.2.7:1", x509_common_name=[b"edge-1"])).name == "certificate:edge-1"


def test_a_made_token_goes_with_its_digest():
    first, second = (CliRunner().invoke(app, ["token"]) for _ in range(2))
    made = first.stdout.strip()
    assert len(made) >= 43  # 256 bits
    assert first.stderr.strip() == f'tokens_sha256 = ["{digest_of(made)}"]'
    assert second.stdout != first.stdout
