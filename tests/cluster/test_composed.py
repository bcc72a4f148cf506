"""The commands of docker-compose.yml, as processes of this machine in the place of containers: text through both edges, and an end."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from tests.cluster.conftest import Cactus
from tests.compose_file import ALL, OURS, OWN, ROOT, check_of, listens

PATIENCE_S = 120.0


def free_ports(count):
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@pytest.fixture(scope="module")
def port_of():
    """Of a service and its port there, the port here."""
    places = [(name, port) for name in OURS for port in sorted(listens(name))]
    return dict(zip(places, free_ports(len(places)), strict=True))


def here(name, line, port_of):
    """A service's command as one of this machine."""

    def moved(argument):
        def address(match):
            service = name if match[1] in (ALL, OWN) else match[1]
            return f"127.0.0.1:{port_of[service, match[2]]}" if (service, match[2]) in port_of else match[0]

        return re.sub(r"([\w.-]+):(\d{4})\b", address, argument)

    program = {"cactus": [sys.executable, "-m", "cluster"], "python": [sys.executable]}[line[0]]
    return [*program, *map(moved, line[1:])]


@contextmanager
def running(name, port_of, said, environment):
    line = here(name, OURS[name]["command"], port_of)
    process = subprocess.Popen(line, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + PATIENCE_S
        check = here(name, check_of(OURS[name]), port_of)
        while subprocess.run(check, cwd=ROOT, env=environment, capture_output=True, check=False).returncode:
            assert process.poll() is None, f"{name} ended by itself"
            assert time.monotonic() < deadline, f"{name} is not healthy"
        yield process
    finally:
        try:
            process.send_signal(signal.SIGTERM)
            said[name] = process.communicate(timeout=60)[0]
        finally:
            process.kill()  # nothing, where it has ended


def body(**more):
    return {"model": "target", "prompt": "def main(", "max_tokens": 24, "temperature": 1, "seed": 3, "stream": False} | more


def asked(port, **more):
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body(**more), timeout=120)
    return answer.raise_for_status().json()["choices"][0]["text"]


def pieces_of(port, **more):
    """A text as it comes."""
    with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/completions", json=body(stream=True, **more), timeout=120) as answer:
        for line in answer.raise_for_status().iter_lines():
            if line.startswith("data: {"):
                yield from (choice["text"] for choice in json.loads(line.removeprefix("data: "))["choices"])


def carried(said):
    """Bytes up and down that a link told of at its end."""
    return tuple(map(int, re.findall(r"(\d+) bytes went up, (\d+) down", said)[0]))


@pytest.mark.slow
def test_text_comes_through_both_edges_and_nothing_stays(port_of):
    cactus, said = Cactus(), {}
    environment = cactus._environment | {"PYTHONPATH": str(ROOT)}
    with ExitStack() as stack:
        far = stack.enter_context(ExitStack())  # of the link that is ended, and started again
        processes = {}
        for name in OURS:
            own = far if name == "link-far" else stack
            processes[name] = own.enter_context(running(name, port_of, said, environment))
        texts = [asked(port_of[edge, "8000"]) for edge in ("edge-near", "edge-far")]
        assert texts[0] == texts[1] != ""

        whole = asked(port_of["edge-near", "8000"], max_tokens=200)
        pieces = pieces_of(port_of["edge-far", "8000"], max_tokens=200)
        text = next(pieces)
        far.close()
        assert processes["link-far"].returncode in (0, 130)
        assert min(carried(said["link-far"])) > 100
        assert len(text) < len(whole)
        processes["link-far"] = far.enter_context(running("link-far", port_of, said, environment))
        assert text + "".join(pieces) == whole
        told = httpx.get(f"http://127.0.0.1:{port_of['edge-far', '8000']}/metrics", timeout=30).text
        assert float(re.findall(r"cactus_edge_resumes_total ([\d.]+)", told)[0]) >= 1  # the text had not ended before its link

        told = httpx.get(f"http://127.0.0.1:{port_of['head', '9464']}/metrics", timeout=30).text
        parts = dict(re.findall(r'cactus_part_up\{part="([\w-]+)"\} ([\d.]+)', told))
        assert parts == {"gateway-1": "1.0", "replica-1": "1.0", "replica-2": "1.0"}
        emitted = re.findall(r'cactus_emitted_tokens_total\{part="replica-\d"\} ([\d.]+)', told)
        assert sum(map(float, emitted)) >= 448
        for edge in ("edge-near", "edge-far"):  # as Prometheus asks them
            assert "cactus_edge_tokens_total" in httpx.get(f"http://127.0.0.1:{port_of[edge, '8000']}/metrics", timeout=30).text
    for name, process in processes.items():
        assert process.returncode in (0, 130), name
        if name.startswith("link"):
            assert min(carried(said[name])) > 100
    assert cactus.left_running() == []
