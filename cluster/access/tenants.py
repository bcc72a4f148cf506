"""The file of tenants: whose tokens are good here, and what each tenant may take.

    [tenants.acme]
    tokens_sha256 = ["9f86d0..."]    # `cactus token` makes a token and its digest; two while one is being rotated
    positions_per_s = 2000           # any quota of cluster/access/quotas.py
    positions_burst = 20000

    [admission]                      # optional: of the gateway as a whole (cluster/access/admission.py)
    num_streams = 4096

Knows digests and quotas; knows nothing of calls. No token is ever kept, shown or logged.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from cactus_core.errors import InvalidInput
from cloud.certificates import file_stamp
from cluster.access.admission import Admission
from cluster.access.quotas import Quota

_log = logging.getLogger(__name__)
_DIGEST_CHARACTERS = 64
T = TypeVar("T")


def digest_of(token: str) -> str:
    """What the file of tenants has of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Tenant:
    name: str
    quota: Quota = field(default_factory=Quota)
    tokens_sha256: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Tenants:
    """Everybody who may come in."""

    by_name: dict[str, Tenant]
    admission: Admission = field(default_factory=Admission)

    def of_token(self, token: str) -> Tenant | None:
        """Takes as long whoever's it is, and whether it is anybody's."""
        digest, found = digest_of(token), None
        for tenant in self.by_name.values():
            for known in tenant.tokens_sha256:
                if hmac.compare_digest(digest, known):
                    found = tenant
        return found

    @classmethod
    def parse(cls, text: str, where: str) -> Tenants:
        """Raises `InvalidInput`, which quotes none of it but names and numbers, for what does not hold together."""
        try:
            tables = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InvalidInput(f"{where} is not TOML: {error}") from None
        if unknown := tables.keys() - {"tenants", "admission"}:
            raise InvalidInput(f"{where} has an unknown table {min(unknown)!r}; it takes [tenants.NAME] and [admission]")
        named = tables.get("tenants", {})
        if not isinstance(named, dict) or not named:
            raise InvalidInput(f"{where} names no tenant; add [tenants.NAME] with tokens_sha256, or leave out --tenants")
        by_name = {name: _tenant(name, table, where) for name, table in named.items()}
        return cls(by_name, _made(Admission, tables.get("admission", {}), f"{where}: [admission]"))


def _tenant(name: str, table: Any, where: str) -> Tenant:
    here = f"{where}: [tenants.{name}]"
    if not isinstance(table, dict):
        raise InvalidInput(f"{here} is not a table")
    digests = table.get("tokens_sha256", [])
    if not isinstance(digests, list) or not all(isinstance(each, str) for each in digests):
        raise InvalidInput(f"{here} tokens_sha256 must be a list of digests")
    if not all(len(each) == _DIGEST_CHARACTERS and set(each.lower()) <= set("0123456789abcdef") for each in digests):
        raise InvalidInput(
            f"{here} tokens_sha256 takes SHA-256 digests of {_DIGEST_CHARACTERS} hexadecimal digits, not tokens: `cactus token`"
        )
    quotas = {key: value for key, value in table.items() if key != "tokens_sha256"}
    return Tenant(name, _made(Quota, quotas, here), tuple(each.lower() for each in digests))


def _made(kind: type[T], table: Any, here: str) -> T:
    try:
        return kind(**table)
    except TypeError:
        known = ", ".join(kind.__dataclass_fields__)  # type: ignore[attr-defined]  # both kinds are dataclasses
        raise InvalidInput(f"{here} takes {known}; not all of {', '.join(table)}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{here} {error}") from None


class TenantsFile:
    """`Tenants` as the file has them now."""

    def __init__(self, path: Path) -> None:
        """Raises `InvalidInput` when it cannot be read, or does not hold together."""
        self._path = path
        self._stamp = file_stamp(path)
        self._current = self._read()

    def current(self) -> Tenants:
        """A change counts from the next call on. One that broke the file is reported once, and what it said before stays in force."""
        stamp = file_stamp(self._path)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._current = self._read()
            except InvalidInput as error:
                _log.error("%s; the tenants of before stay in force", error)  # one line, as any error of ours
        return self._current

    def _read(self) -> Tenants:
        try:
            text = self._path.read_text("utf8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"cannot read the tenants' file {self._path}: {getattr(error, 'strerror', 'it is not UTF-8')}") from None
        return Tenants.parse(text, str(self._path))
