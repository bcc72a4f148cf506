"""What pages show that serves, or takes long, run as processes: the tutorial's three commands among them. Ports are moved to free ones."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cluster.conftest import Cactus
from tests.docs.pages import ROOT, programs
from tests.docs.trying import How, to_try

pytestmark = pytest.mark.slow
PATIENCE_S = 120.0
SERVED = [shown.typed for shown in to_try(How.SERVED)]
# Where a verb listens if it is not told.
OWN = {"up": 7800, "gateway": 7800, "verifier": 7801, "link": 7802, "serve": 8000}


def of_verb(verb):
    """The lines of a verb, each once."""
    return list(dict.fromkeys(line for line in SERVED if line.split()[:2] == ["cactus", verb]))


class Moved:
    """Lines as they are shown, but with free ports for the ports that pages name."""

    def __init__(self, folder):
        with ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(6)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            named = (7800, 7801, 7802, 7803, 8000, 9464)
            self.ports = dict(zip(named, (each.getsockname()[1] for each in sockets), strict=True))
        self.cactus, self.folder = Cactus(), folder
        self.cactus._environment["PYTHONPATH"] = str(ROOT)

    def arguments(self, line):
        verb, *flags = shlex.split(line)[1:]
        if verb in OWN and "--listen" not in flags:
            flags += ["--listen", f"127.0.0.1:{OWN[verb]}"]
        if verb in ("serve", "generate") and "--endpoint" not in flags:
            flags += ["--endpoint", "127.0.0.1:7800"]
        return [self.here(argument) for argument in (verb, *flags)]

    def here(self, text):
        return re.sub(r"127\.0\.0\.1:(\d{4})\b", lambda found: f"127.0.0.1:{self.ports[int(found[1])]}", text)

    def start(self, line, out=subprocess.DEVNULL):
        return subprocess.Popen(
            [sys.executable, "-m", "cluster", *self.arguments(line)],
            cwd=self.folder, env=self.cactus._environment, stdout=out, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, line):
        """What it printed; it must end well."""
        with self.start(line, subprocess.PIPE) as process:
            out, error = process.communicate(timeout=600)
        assert process.returncode == 0, (line, out, error)
        return out

    @contextmanager
    def serving(self, line):
        """From the moment that its port answers; ended by Ctrl-C."""
        process = self.start(line)
        arguments = self.arguments(line)
        port = int(arguments[arguments.index("--listen") + 1].rpartition(":")[2])
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not answers(port):
                assert process.poll() is None, (line, process.stderr.read())
                assert time.monotonic() < deadline, f"{line} is not up"
                time.sleep(0.2)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)

    def ready(self):
        deadline = time.monotonic() + PATIENCE_S
        line = [sys.executable, "-m", "cluster", "describe", "--endpoint", self.here("127.0.0.1:7800")]
        while subprocess.run(line, env=self.cactus._environment, cwd=self.folder, capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "the gateway is not ready"

    def completes(self):
        """Through `cactus serve`: text."""
        url = self.here("http://127.0.0.1:8000/v1/completions")
        answer = httpx.post(url, json={"model": "target", "prompt": "def main(", "max_tokens": 12}, timeout=60)
        return answer.raise_for_status().json()["choices"][0]["text"]


def answers(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def moved(checkout):
    moved = Moved(checkout)
    yield moved
    assert moved.cactus.left_running() == []


def test_a_newcomer_reaches_text_from_their_own_openai_client_in_three_commands(moved):
    first, second, third = [shown.typed for shown in to_try(How.SERVED) if shown.page == "docs/tutorial.md"][:3]
    make = ["make", "--dry-run", "--always-make", *first.split()[1:]]
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # make itself may have begun these tests
    made = subprocess.run(make, cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    assert made.stdout.rstrip().endswith(".venv/bin/cactus demo")  # test_commands.py of tests/cluster runs that
    own_client = next(code for name, code in programs() if name == "docs/tutorial.md 1")
    with moved.serving(second):
        moved.ready()
        with moved.serving(third):
            done = subprocess.run([sys.executable, "-c", moved.here(own_client)], capture_output=True, text=True, timeout=120, check=True)
    assert len(done.stdout) > 20


def test_parts_by_hand_serve_text_over_a_link_too(moved):
    with ExitStack() as verifiers:
        for line in {line.split("--listen ")[1][:14]: line for line in of_verb("verifier")}.values():
            verifiers.enter_context(moved.serving(line))
        for gateway in of_verb("gateway"):
            with moved.serving(gateway), moved.serving(*of_verb("link")):
                moved.ready()
                for server in of_verb("serve"):
                    with moved.serving(server):
                        assert moved.completes()


@pytest.mark.parametrize("line", of_verb("up"), ids=str)
def test_up_serves_until_it_is_interrupted(line, moved):
    with moved.serving(line):
        moved.ready()
        if "--metrics" in line:
            assert "cactus_part_up" in httpx.get(moved.here("http://127.0.0.1:9464/metrics"), timeout=30).text


@pytest.mark.parametrize("line", list(dict.fromkeys(shown.typed for shown in to_try(How.SLOW))), ids=str)
def test_command_that_takes_long_ends_well(line, moved, living):
    moved.ports |= living.ports
    moved.run(line)
    written = re.findall(r"--(?:json|svg|plot) (\S+)", line)
    assert all(Path(moved.folder, name).stat().st_size for name in written)
