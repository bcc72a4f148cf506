"""How a gateway is secured: what the options of the command line ask for, as one value.

Knows files and addresses; knows nothing of calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from cactus_core.errors import InvalidInput
from cloud.certificates import ServerCertificates
from cluster.access.admission import Admission
from cluster.access.interceptor import AccessInterceptor
from cluster.access.tenants import TenantsFile
from edge.credentials import Credentials, is_loopback


@dataclass(frozen=True, slots=True)
class Security:
    """Without `tenants` everybody comes in, within what a host may take; without `certificates` in plain text. With `to_replicas` verifiers
    are reached by TLS. `admission` stands where the file of tenants says nothing. Picklable, so that it reaches a gateway in another
    process.
    """

    certificates: ServerCertificates | None = None
    tenants: Path | None = None
    insecure_tokens: bool = False
    to_replicas: Credentials | None = None
    admission: Admission = field(default_factory=Admission)

    def check(self, listen: str) -> None:
        """Raises `InvalidInput` for files that cannot be used, and where tokens would travel in plain text beyond this machine."""
        self.credentials()
        self.interceptor()
        if self.tenants and not self.certificates and not self.insecure_tokens and not is_loopback(listen):
            raise InvalidInput(
                f"tokens would reach {listen} in plain text; give --tls-cert and --tls-key, or --insecure-tokens behind a proxy with TLS"
            )

    def credentials(self) -> grpc.ServerCredentials | None:
        """Raises `InvalidInput` for certificates that cannot be used."""
        return self.certificates.credentials() if self.certificates else None

    def interceptor(self) -> AccessInterceptor:
        """Raises `InvalidInput` for a file of tenants that does not hold together."""
        return AccessInterceptor(TenantsFile(self.tenants) if self.tenants else None, self.admission)
