"""docker-compose.yml says what the command line understands, and its services find each other."""

import json
import re
import shutil
import subprocess

import pytest
import typer
import yaml

from cluster.cli import app
from tests.compose_file import ALL, OURS, OWN, ROOT, SERVICES, check_of, listens, places_in

LINES = {f"{name}: command": service["command"] for name, service in OURS.items()} | {
    f"{name}: healthcheck": check_of(service) for name, service in OURS.items() if check_of(service)[0] == "cactus"
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_line_is_a_verb_with_its_flags(line):
    program, verb, *arguments = line
    assert program == "cactus"
    typer.main.get_command(app).commands[verb].make_context(verb, list(arguments))  # parses and checks; runs nothing


@pytest.mark.parametrize("name", OURS)
def test_dockerfile_exists_and_is_not_run_as_root(name):
    image = SERVICES[name]["image"]
    built = next(other["build"] for other in SERVICES.values() if other["image"] == image and "build" in other)
    assert "\nUSER cactus\n" in (ROOT / built["dockerfile"]).read_text("utf8")


@pytest.mark.parametrize("name", OURS)
def test_a_service_finds_what_it_names(name):
    for host, port in places_in([*SERVICES[name]["command"], *check_of(SERVICES[name])]):
        assert port in listens(name if host in (ALL, OWN) else host)
        assert host in (ALL, OWN) or host in SERVICES[name]["depends_on"]


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_this_machines_alone_and_what_is_waited_for_can_be_healthy(name):
    service = SERVICES[name]
    assert all(port.startswith("127.0.0.1:") and port.rpartition(":")[2] in listens(name) for port in service.get("ports", []))
    assert all("healthcheck" in SERVICES[other] for other in service.get("depends_on", {}))
    assert all((ROOT / volume.split(":")[0]).exists() and volume.endswith(":ro") for volume in service.get("volumes", []))
    assert "build" in service or ":" in service["image"] or any("build" in s and s["image"] == service["image"] for s in SERVICES.values())


@pytest.mark.parametrize("name", SERVICES)
def test_health_is_asked_where_the_service_listens(name):
    asked = re.findall(r"(?:localhost|127\.0\.0\.1):(\d+)", " ".join(check_of(SERVICES[name])))
    assert len(asked) == 1
    assert set(asked) <= listens(name)


def test_images_of_others_are_of_one_version_and_nothing_secret_is_set():
    for name in set(SERVICES) - set(OURS):
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", SERVICES[name]["image"])
    assert [key for service in SERVICES.values() for key in service.get("environment", {}) if re.search("PASSWORD|TOKEN|SECRET", key)] == []


def test_whoever_looks_at_grafana_can_change_nothing():
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert environment["GF_AUTH_BASIC_ENABLED"] == "false"
    assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"


def test_grafana_is_given_its_source_and_the_folder_of_its_dashboard():
    mounted = dict(volume.split(":")[:2][::-1] for volume in SERVICES["grafana"]["volumes"])
    provisioning = ROOT / mounted["/etc/grafana/provisioning"]
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text("utf8"))["datasources"]
    host, port = source["url"].removeprefix("http://").split(":")
    assert port in listens(host)
    (provider,) = yaml.safe_load((provisioning / "dashboards/cactus.yml").read_text("utf8"))["providers"]
    folder = ROOT / mounted[provider["options"]["path"]]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    dashboard = json.loads((folder / home.removeprefix(provider["options"]["path"] + "/")).read_text("utf8"))
    assert set(re.findall(r'"datasource": \{[^}]*"uid": "([^"]+)"', json.dumps(dashboard))) == {source["uid"]}


def test_prometheus_asks_services_where_they_tell():
    asked = yaml.safe_load((ROOT / "observability/prometheus.yml").read_text("utf8"))["scrape_configs"]
    targets = {target for job in asked for group in job["static_configs"] for target in group["targets"]}
    assert {target.split(":")[0] for target in targets} == {"head", "edge-near", "edge-far"}
    assert all(target.split(":")[1] in listens(target.split(":")[0]) for target in targets)


def test_file_is_valid():
    compose = shutil.which("docker-compose")
    if compose is None:
        pytest.skip("docker-compose is not installed")
    done = subprocess.run([compose, "config", "-q"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
