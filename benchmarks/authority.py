"""A certificate authority for one run, and what it signs.

Knows names and days; knows nothing of who shows what to whom.
"""

from __future__ import annotations

import datetime as dt
import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_HERE = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])


class Authority:
    """`certificate` is its own, as PEM."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed("authority", self._key, days_left=2)

    def signs(self, name: str, *, days_left: int = 1) -> tuple[bytes, bytes]:
        """A certificate on `name` for this machine, and its key; of 0 days or fewer it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        encoded = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return self._signed(name, key, days_left=days_left), key.private_bytes(*encoded)

    def _signed(self, name: str, key: ec.EllipticCurvePrivateKey, *, days_left: int) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(_named("authority"), _named(name), key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - dt.timedelta(days=5)).not_valid_after(now + dt.timedelta(days=days_left))
        builder = builder.add_extension(x509.BasicConstraints(ca=key is self._key, path_length=None), critical=True)
        signed = builder.add_extension(_HERE, critical=False).sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
