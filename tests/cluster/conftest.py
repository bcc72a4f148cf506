"""`cactus` as a person runs it: in a process of its own, whose descendants can be found again."""

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from cactus_core.demo_pair import demo_model
from tests.integration.conftest import small_pair  # noqa: F401  # a fixture here too

MARK = "CACTUS_TEST_MARK"

# A shell that runs the tests in the background has interrupts ignored, and what is ignored stays so in child processes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Cactus:
    """Runs verbs; knows whatever they started, however it was daemonised, by a mark in its environment."""

    def __init__(self):
        self._mark = uuid.uuid4().hex
        # Ray lets nobody in without its token: all that one of these runs has the same, and nobody else does.
        ray = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": uuid.uuid4().hex * 2}
        self._environment = {**os.environ, **ray, MARK: self._mark, "NO_COLOR": "1", "COLUMNS": "200"}

    def start(self, *arguments):
        line = [sys.executable, "-m", "cluster", *map(str, arguments)]
        return subprocess.Popen(line, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *arguments, timeout=240):
        with self.start(*arguments) as process:
            out, error = process.communicate(timeout=timeout)
        return process.returncode, out, error

    @property
    def num_running(self):
        return len(list(self._processes()))

    def left_running(self, within_s=10.0):
        """What still runs after a moment's grace: command lines."""
        if not Path("/proc/self/environ").exists():
            pytest.skip("processes are found by their environment, which only Linux shows")
        deadline = time.monotonic() + within_s
        while (found := list(self._processes())) and time.monotonic() < deadline:
            time.sleep(0.2)
        return found

    def _processes(self):
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self._mark}".encode() in (process / "environ").read_bytes():
                    yield (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # ended while we looked


@pytest.fixture
def cactus():
    return Cactus()


@pytest.fixture(scope="session")
def cluster():
    """A cluster of the demo pair on Ray: its endpoint."""
    cactus = Cactus()
    with cactus.start("up", "--listen", "127.0.0.1:0", "--device", "cpu") as process:
        line = process.stdout.readline()
        assert "serving target at " in line, process.stderr.read()
        yield line.split(" at ")[1].split()[0]
        process.terminate()
        process.communicate(timeout=60)
    assert cactus.left_running() == []


@pytest.fixture(scope="session")
def draft():
    return demo_model("draft")
