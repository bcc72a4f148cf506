"""A cluster that was started here leaves nothing of Ray's running, not even what Ray itself leaves."""

import subprocess
import sys
import time

import psutil

from cluster import ray_cluster

SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]


def test_what_does_not_end_by_itself_is_ended(monkeypatch):
    monkeypatch.setattr(ray_cluster, "_GRACE_S", 0.2)
    with subprocess.Popen(SLEEPS) as lingers:
        process = psutil.Process(lingers.pid)
        ray_cluster._end([process])
        assert not process.is_running()


def test_what_ends_by_itself_is_let():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.3)"]) as ends:
        started = time.monotonic()
        ray_cluster._end([process := psutil.Process(ends.pid)])
        assert 0.2 < time.monotonic() - started < ray_cluster._GRACE_S
        assert not process.is_running()


def test_of_our_children_only_a_raylets_are_looked_for(tmp_path):
    raylet = tmp_path / "raylet"  # by its name, as a raylet is known
    raylet.write_text(f"#!/bin/sh\n{sys.executable} -c 'import time; time.sleep(600)' &\nwait\n")
    raylet.chmod(0o755)
    with subprocess.Popen(SLEEPS) as other, subprocess.Popen([raylet]) as ours:
        deadline = time.monotonic() + 20.0
        while not (found := ray_cluster._of_raylets()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [process.ppid() for process in found] == [ours.pid]
        assert other.pid not in {process.pid for process in found}
        for process in (*found, ours, other):
            process.kill()
