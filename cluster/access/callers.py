"""Who calls: a tenant by its token or by its certificate, or else whoever is at a host.

Knows what gRPC tells of a call; knows nothing of quotas' use or of frames.
"""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse
from collections.abc import Iterable
from contextvars import ContextVar

from cactus_core.errors import Unauthenticated
from cloud.serving import Context, host_of
from cluster.access.quotas import OF_A_HOST
from cluster.access.tenants import Tenant, TenantsFile

_SCHEME = "bearer "
# The name of whom the call that this task serves is for.
CALLER: ContextVar[str] = ContextVar("cactus_caller")


def caller_of(context: Context) -> str:
    """Among whom steps, pages and quotas are shared: the tenant that the interceptor let in, or else the caller's network."""
    return CALLER.get("") or network_of(context)


class Callers:
    """Without a file of tenants everybody is somebody: by the certificate's common name, or else by host."""

    def __init__(self, tenants: TenantsFile | None) -> None:
        self._tenants = tenants

    def identify(self, context: Context) -> Tenant:
        """Raises `Unauthenticated`, which never says what was shown."""
        token, subject = _token_of(context.invocation_metadata() or ()), _subject_of(context)
        if self._tenants is None:
            return Tenant(f"certificate:{subject}" if subject else network_of(context), OF_A_HOST)
        tenants = self._tenants.current()
        if token is not None:
            if (tenant := tenants.of_token(token)) is None:
                raise Unauthenticated("this token is not known here, or no longer; get a new one from whoever runs this gateway")
            return tenant
        if subject is not None:
            if (tenant := tenants.by_name.get(subject)) is None:
                raise Unauthenticated(f"the certificate is good, but {subject!r} is no tenant here; ask whoever runs this gateway")
            return tenant
        raise Unauthenticated("this gateway asks for a token; give one by --token-file or in the environment variable CACTUS_TOKEN")


def network_of(context: Context) -> str:
    """Where the caller is, as far as one caller can be told from another: of IPv6 a /64, of which one caller has all addresses."""
    host = urllib.parse.unquote(host_of(context))
    if host.startswith("ipv6:"):
        with contextlib.suppress(ValueError):
            address = ipaddress.IPv6Address(host.removeprefix("ipv6:").strip("[]"))
            if address.ipv4_mapped is not None:
                return f"ipv4:{address.ipv4_mapped}"
            return f"ipv6:{ipaddress.IPv6Network((int(address) >> 64 << 64, 64))}"
    return host


def _token_of(metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str) and value[: len(_SCHEME)].lower() == _SCHEME:
            return value[len(_SCHEME) :].strip()
    return None


def _subject_of(context: Context) -> str | None:
    """The common name of a certificate that the handshake verified."""
    for name in context.auth_context().get("x509_common_name", ()):
        return name.decode("utf8", "replace")
    return None
