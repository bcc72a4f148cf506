"""Profiles by name or by file: those that come with Cactus, and a user's own, in YAML.

    cactus plan --device laptop --verifier mine.yaml

Knows files and what a profile's fields are; knows nothing of what they mean.
"""

from __future__ import annotations

from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from cactus_core.errors import InvalidInput
from cluster.link_profile import PROFILES, LinkProfile
from cluster.planning.acceptance_curve import AcceptanceCurve
from cluster.planning.device_profile import DeviceProfile
from cluster.planning.verifier_profile import VerifierProfile

_SHIPPED = files("cluster.planning") / "profiles"
_FOLDER_OF: dict[type, str] = {DeviceProfile: "devices", VerifierProfile: "verifiers", AcceptanceCurve: "acceptance"}
_ENDINGS = (".yaml", ".yml")

P = TypeVar("P", DeviceProfile, VerifierProfile, AcceptanceCurve, LinkProfile)


def names(kind: type) -> list[str]:
    """Of the profiles of a kind that come with Cactus."""
    if kind is LinkProfile:
        return [*PROFILES]
    return sorted(entry.name.removesuffix(".yaml") for entry in (_SHIPPED / _FOLDER_OF[kind]).iterdir() if entry.name.endswith(".yaml"))


def profile(kind: type[P], name: str) -> P:
    """The profile of that name, or of the YAML file of that path. Raises `InvalidInput`, in one line, for what is neither or amiss."""
    if name.endswith(_ENDINGS):
        path = Path(name)
        try:
            text = path.read_text("utf8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{name} cannot be read ({error}); give a profile's file, or one of: {', '.join(names(kind))}") from None
        return parsed(kind, text, name)
    if name not in names(kind):
        raise InvalidInput(f"there is no {_title(kind)} {name!r}; give a .yaml file, or one of: {', '.join(names(kind))}")
    if kind is LinkProfile:
        return PROFILES[name]
    return parsed(kind, (_SHIPPED / _FOLDER_OF[kind] / f"{name}.yaml").read_text("utf8"), f"{name}.yaml")


def parsed(kind: type[P], text: str, source: str) -> P:
    """The profile that `text` holds. Raises `InvalidInput`, naming `source` and the field, for what is amiss."""
    try:
        record = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidInput(f"{source} is not YAML: {' '.join(str(error).split())}") from None
    known = [field.name for field in fields(kind) if field.init]
    if not isinstance(record, dict):
        raise InvalidInput(f"{source} must hold the fields of a {_title(kind)}: {', '.join(known)}")
    if unknown := [str(key) for key in record if key not in known]:
        raise InvalidInput(f"{source}: a {_title(kind)} has no field {unknown[0]!r}; its fields are {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(record)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or _title(kind)
        raise InvalidInput(f"{source}: {where}: {first['msg'].lower()}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{source}: {error}") from None


def written(record: dict[str, Any], comment: str) -> str:
    """YAML that `parsed` reads, with a `comment` on its first lines."""
    lines = "".join(f"# {line}\n" for line in comment.splitlines())
    return lines + yaml.safe_dump(record, sort_keys=False, allow_unicode=True)


def _title(kind: type) -> str:
    return {DeviceProfile: "device profile", VerifierProfile: "verifier profile", AcceptanceCurve: "acceptance curve"}.get(
        kind, "link profile"
    )
