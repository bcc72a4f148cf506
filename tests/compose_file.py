"""What docker-compose.yml says, as the tests read it."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf8"))["services"]
ALL, OWN = "0.0.0.0", "localhost"  # noqa: S104  # within a container
OURS = {name: service for name, service in SERVICES.items() if "command" in service}


def check_of(service: dict[str, Any]) -> list[str]:
    """The command that tells whether it is healthy."""
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    return command


def places_in(line: list[str]) -> set[tuple[str, str]]:
    """Hosts and ports that a command names."""
    return {(host, port) for argument in line for host, _, port in [argument.rpartition(":")] if host and port.isdecimal()}


def listens(name: str) -> set[str]:
    """The ports at which a service listens, of all its addresses; of others' images those that it publishes."""
    service = SERVICES[name]
    own = {port for host, port in places_in(service.get("command", [])) if host == ALL}
    return own or {port.rpartition(":")[2] for port in service.get("ports", [])}
