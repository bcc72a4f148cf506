"""What an edge proves who it is with, and how it knows whom it talks to.

Knows files, tokens and gRPC's channels; knows nothing of streams or frames. A token is read anew for each stream, so that a new
one counts without a restart; it is never shown.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio

from cactus_core.certificates import read_pair, read_pem
from cactus_core.errors import InvalidInput

TOKEN_VARIABLE = "CACTUS_TOKEN"  # noqa: S105  # a name, no token
_PROBE_S = 3.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """PEM files and a file with a token. With `ca` the connection is TLS, to a server whose certificate that CA signed; `certificate` and
    `key` are shown to one that asks for them (mutual TLS). Without `token_file` the environment variable CACTUS_TOKEN is the token, if set.
    """

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    token_file: Path | None = None
    insecure_tokens: bool = False

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None) or (self.certificate and not self.ca):
            raise InvalidInput("--tls-cert and --tls-key go together, and with --tls-ca")

    def channel(self, address: str, options: Sequence[tuple[str, int]]) -> grpc.aio.Channel:
        """Raises `InvalidInput` for files that cannot be used, and where a token would travel in plain text beyond this machine."""
        self.metadata(address)
        if self.ca is None:
            return grpc.aio.insecure_channel(address, options=options)
        roots = read_pem(self.ca, "the CA")
        certificate, key = read_pair(self.certificate, self.key) if self.certificate and self.key else (None, None)
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots, key, certificate), options=options)

    def metadata(self, address: str) -> tuple[tuple[str, str], ...]:
        """What a call carries."""
        token = self._token()
        if token is None:
            return ()
        if self.ca is None and not self.insecure_tokens and not is_loopback(address):
            raise InvalidInput(f"the token would go to {address} in plain text; give --tls-ca, or --insecure-tokens where the link is safe")
        return (("authorization", f"Bearer {token}"),)

    def _token(self) -> str | None:
        if self.token_file is None:
            token, source = os.environ.get(TOKEN_VARIABLE, ""), f"the environment variable {TOKEN_VARIABLE}"
            if not token:
                return None
        else:
            source = f"the token's file {self.token_file}"
            try:
                token = self.token_file.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise InvalidInput(f"cannot read {source}: {getattr(error, 'strerror', 'it is not plain text')}") from None
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidInput(f"{source} holds no token: one line without spaces, as `cactus token` makes it")
        return token

    async def why_unreachable(self, address: str) -> str | None:
        """One line on what is wrong between the two sides, as a connection of our own finds it; None when it is not the credentials."""
        if self.ca is None:
            return f"{address} speaks TLS; give its CA by --tls-ca" if await _speaks_tls(address) else None
        try:
            reader, writer = await _connected(address, self._context())
        except ssl.SSLCertVerificationError as error:
            return _fault_of(address, error)
        except ssl.SSLError:
            return f"{address} does not speak TLS; leave out --tls-ca, or name the port that does"
        except (OSError, TimeoutError):
            return None
        try:
            async with asyncio.timeout(_PROBE_S):
                is_let_in = bool(await reader.read(1))
        except (OSError, TimeoutError):
            return None
        finally:
            writer.transport.abort()
        if is_let_in:
            return None
        shown = f"does not accept the certificate {self.certificate}" if self.certificate else "asks for a certificate"
        return f"{address} {shown}; give one that its CA signed, by --tls-cert and --tls-key"

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.ca)
        if self.certificate and self.key:
            context.load_cert_chain(self.certificate, self.key)
        context.set_alpn_protocols(["h2"])
        return context


def _fault_of(address: str, error: ssl.SSLCertVerificationError) -> str:
    match error.verify_code:
        case 10:
            return f"the certificate of {address} has expired; whoever runs it must replace it"
        case 9:
            return f"the certificate of {address} is not valid yet; set this machine's clock, or have it replaced"
        case 18 | 19 | 20 | 21:
            return f"the certificate of {address} is from a CA that --tls-ca does not name; give the file of the CA that signed it"
        case _:
            return f"the certificate of {address} does not hold: {error.verify_message}"


async def _speaks_tls(address: str) -> bool:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent: only whether it answers is of interest
    context.set_alpn_protocols(["h2"])
    try:
        _, writer = await _connected(address, context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def _connected(address: str, context: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(_PROBE_S):
        return await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)


def is_loopback(address: str) -> bool:
    """Whether `host:port` is this machine's alone."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
