import numpy as np
import pytest

from cactus_core.errors import Unavailable
from cluster.router import Opening, Router

OPENING = Opening("tenant", "", np.array([1, 2]))


def test_streams_go_where_the_fewest_are_and_in_turn_among_equals():
    router = Router(["a", "b", "c"])
    for _ in range(9):
        router.opened(router.choose(OPENING))
    assert dict(router._num_streams) == {"a": 3, "b": 3, "c": 3}
    router.closed("b")
    assert router.choose(OPENING) == "b"
    router.opened("b")
    assert {router.choose(OPENING) for _ in range(3)} == {"a", "b", "c"}


def test_who_has_failed_is_passed_over_until_nobody_is_left():
    router = Router(["a", "b"])
    assert router.choose(OPENING, {"a"}) == "b"
    with pytest.raises(Unavailable, match="no verifier is ready"):
        router.choose(OPENING, {"a", "b"})


def test_streams_of_replicas_that_were_taken_away_are_still_counted_out():
    router = Router(["a"])
    router.opened("a")
    router.replace(["b"])
    assert router.addresses == ("b",)
    assert router.choose(OPENING) == "b"
    router.closed("a")
    assert not router._num_streams
