"""What a server proves who it is with, and whom it believes: certificates, read again whenever their files change.

Knows files and gRPC's credentials; knows nothing of what is served, of tokens or of tenants.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc

from cactus_core.certificates import read_pair, read_pem
from cactus_core.errors import InvalidInput

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerCertificates:
    """PEM files. With `client_ca` whoever calls must show a certificate that it signed (mutual TLS)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    @classmethod
    def given(cls, certificate: Path | None, key: Path | None, client_ca: Path | None) -> ServerCertificates | None:
        """What options of those names ask for; None for plain text. Raises `InvalidInput` where one is missing."""
        if certificate is None and key is None and client_ca is None:
            return None
        if certificate is None or key is None:
            raise InvalidInput("--tls-cert and --tls-key go together, and --tls-client-ca needs both")
        return cls(certificate, key, client_ca)

    def credentials(self) -> grpc.ServerCredentials:
        """Looked at anew at each handshake: files that were replaced count from the next connection on, without a restart. Replaced by
        something broken, they are reported once and the last good ones stay.

        Raises `InvalidInput` for files that cannot be used now.
        """
        watched = _Watched(self)
        return grpc.dynamic_ssl_server_credentials(
            watched.first,
            watched.changed,  # type: ignore[arg-type]  # None is "as before", which the stubs do not know
            require_client_authentication=self.client_ca is not None,
        )

    def read(self) -> grpc.ServerCertificateConfiguration:
        certificate, key = read_pair(self.certificate, self.key)
        roots = read_pem(self.client_ca, "the clients' CA") if self.client_ca else None
        return grpc.ssl_server_certificate_configuration([(key, certificate)], roots)

    def stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        """Changes when a file does."""
        return tuple(file_stamp(path) for path in (self.certificate, self.key, self.client_ca) if path)


class _Watched:
    def __init__(self, files: ServerCertificates) -> None:
        self._files = files
        self._stamp = files.stamp()
        self.first = files.read()

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """For gRPC, in a thread of its own: new certificates, or None while the last still count."""
        stamp = self._files.stamp()
        if stamp == self._stamp:
            return None
        self._stamp = stamp
        try:
            return self._files.read()
        except InvalidInput as error:
            _log.error("%s; the last good certificates stay in use", error)  # one line, as any error of ours
            return None


def file_stamp(path: Path) -> tuple[int, int, int] | None:
    """Changes when the file is written or replaced; None while there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
