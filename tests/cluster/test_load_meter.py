"""What a replica says of its load is what its engine has counted lately."""

from dataclasses import dataclass, field

import pytest

from cloud.loop import EngineFigures
from cluster.load_meter import LoadMeter


@dataclass
class Counted:
    figures: EngineFigures = field(default_factory=EngineFigures)
    num_pages: int = 100
    num_free_pages: int = 100
    num_sessions: int = 0
    longest_wait_s: float = 0.0
    keys: tuple[bytes, ...] = ()

    def recent_keys(self, num_keys):
        return [*self.keys][-num_keys:]


def test_queue_delay_follows_what_decisions_waited_and_is_forgotten_when_nothing_does():
    engine = Counted()
    meter = LoadMeter(engine, 0.0)
    for second in range(1, 11):
        engine.figures = EngineFigures(num_decided=10 * second, queue_s=5.0 * second)
        load = meter.read(float(second))
    assert load.queue_s == pytest.approx(0.5, rel=0.02)
    assert meter.read(20.0).queue_s < 0.01


def test_work_that_no_step_takes_up_is_queue_delay_too():
    engine = Counted(longest_wait_s=3.0)
    assert LoadMeter(engine, 0.0).read(1.0).queue_s == 3.0


def test_a_token_takes_what_it_took_in_the_largest_steps():
    engine = Counted()
    meter = LoadMeter(engine, 0.0)
    engine.figures = EngineFigures(busy_s=1.0, num_read=1000)
    assert meter.read(1.0).token_s == pytest.approx(1e-3)
    engine.figures = EngineFigures(busy_s=2.0, num_read=1010)  # decoding
    assert meter.read(2.0).token_s == pytest.approx(1e-3, rel=0.05)


def test_memory_sessions_and_sketch_are_those_of_the_moment():
    engine = Counted(num_free_pages=25, num_sessions=3, keys=(b"0" * 32, b"1" * 32))
    load = LoadMeter(engine, 0.0).read(1.0)
    assert (load.occupancy, load.num_sessions, load.prefixes) == (0.75, 3, {b"0" * 8, b"1" * 8})
