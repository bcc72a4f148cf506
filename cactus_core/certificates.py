"""Certificates as files: what can be said of them before anybody is called.

Knows PEM files and dates; knows nothing of gRPC or of who is trusted.
"""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from cactus_core.errors import InvalidInput


def read_pem(path: Path, what: str) -> bytes:
    """The bytes of a PEM file. Raises `InvalidInput` when it cannot be read or is none; `what` names it there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {what} {path}: {error.strerror}; give a PEM file that this user may read") from None
    if b"-----BEGIN " not in content:
        raise InvalidInput(f"{what} {path} is not in PEM form (-----BEGIN ...); convert it with `openssl x509` or `openssl pkey`")
    return content


def read_pair(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate and its private key. Raises `InvalidInput` when they cannot be read, do not belong together, or are out of date."""
    read = read_pem(certificate, "the certificate"), read_pem(key, "the private key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=lambda: b"")  # or it would ask at the terminal
    except (ssl.SSLError, OSError):
        raise InvalidInput(
            f"the private key {key} is not that of the certificate {certificate}, or it is encrypted or damaged; give the pair, unencrypted"
        ) from None
    match _fault_of_dates(context, read[0]):
        case ssl.SSLCertVerificationError(verify_code=10):
            raise InvalidInput(f"the certificate {certificate} has expired; get a new one")
        case ssl.SSLCertVerificationError(verify_code=9):
            raise InvalidInput(f"the certificate {certificate} is not valid yet; get another, or set the clock")
    return read


def _fault_of_dates(server: ssl.SSLContext, certificate: bytes) -> ssl.SSLError | None:
    """What a client that trusts just this certificate has against it: its dates, as a rule. The handshake stays in memory."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.load_verify_locations(cadata=certificate.decode("latin1"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(down, up), server.wrap_bio(up, down, server_side=True)
    try:
        for end in (near, far, near):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    except ssl.SSLError as fault:
        return fault
    return None
