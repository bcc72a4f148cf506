"""docker-compose.yml says what the command line understands."""

import shutil
import subprocess
from pathlib import Path

import pytest
import typer
import yaml

from cluster.cli import app

ROOT = Path(__file__).parent.parent
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf8"))["services"]
LINES = {f"{name}: command": service["command"] for name, service in SERVICES.items()} | {
    f"{name}: healthcheck": service["healthcheck"]["test"][1:] for name, service in SERVICES.items() if "healthcheck" in service
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_line_is_a_verb_with_its_flags(line):
    program, verb, *arguments = line
    assert program == "cactus"
    command = typer.main.get_command(app).commands[verb]
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


@pytest.mark.parametrize("service", SERVICES)
def test_dockerfile_exists_and_is_not_run_as_root(service):
    image = SERVICES[service]["image"]
    built = next(other["build"] for other in SERVICES.values() if other["image"] == image and "build" in other)
    assert "\nUSER cactus\n" in (ROOT / built["dockerfile"]).read_text("utf8")


def test_file_is_valid():
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    done = subprocess.run([compose, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
