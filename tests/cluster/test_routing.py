"""Where texts are sent: where they were read before, unless that is slower than to read them again."""

import math
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cactus_core.errors import InvalidInput, LimitExceeded, Mismatch, Unavailable
from cloud.pages import PAGE_SIZE
from cluster.router import Opening, Router
from cluster.routing import Bounds, Candidate, Load, Replica, Routes, keys_of, placed

BOUNDS = Bounds(queue_s=1.0, occupancy=0.9)
TEXT = np.arange(100)
TENANT = "somebody"

loads = st.builds(Load, st.floats(0, 3), st.floats(0, 1), st.integers(0, 9), st.floats(0, 0.01))
candidates = st.lists(
    st.builds(Candidate, st.builds(Replica, st.uuids().map(str), st.just(""), loads), st.integers(0, 500), st.integers(0, 9)), max_size=6
)


def opening(text=TEXT, *, model="", has_begun=False, tenant=TENANT):
    return Opening(tenant, model, np.asarray(text), has_begun)


def routed(*loads, bounds=BOUNDS, model="m"):
    router = Router(bounds=bounds)
    router.follow(Routes((model,), tuple(Replica(name, model, load) for name, load in zip("abcdef", loads, strict=False))))
    return router


@given(candidates, st.integers(1, 500))
def test_a_new_text_goes_to_no_hot_replica_and_is_turned_away_where_all_are(given, num_tokens):
    cool = [each for each in given if not BOUNDS.is_hot(each.replica.load)]
    if given and not cool:
        with pytest.raises(LimitExceeded, match="full"):
            placed(given, num_tokens, has_begun=False, bounds=BOUNDS)
        return
    best = placed(given, num_tokens, has_begun=False, bounds=BOUNDS)
    assert bool(best) == bool(given)
    assert all(each in cool for each in best)
    assert all(each.cost_s(num_tokens) <= min(other.cost_s(num_tokens) for other in cool) + 0.0051 for each in best)


@given(candidates, st.integers(1, 500))
def test_a_text_that_has_begun_goes_where_most_of_it_is_and_is_never_turned_away(given, num_tokens):
    best = placed(given, num_tokens, has_begun=True, bounds=BOUNDS)
    assert bool(best) == bool(given)
    assert {each.num_known for each in best} <= {max((each.num_known for each in given), default=0)}


def test_a_known_beginning_is_worth_the_queue_that_it_saves_and_no_more():
    text_s = len(TEXT) * 1e-3
    known = frozenset(keys_of(TEXT, TENANT))
    assert len(known) == 6
    for queue_s, goes_to in ((0.5 * text_s, "b"), (1.5 * text_s, "a")):
        router = routed(Load(token_s=1e-3), Load(token_s=1e-3, queue_s=queue_s, prefixes=known))
        assert router.choose(opening()) == goes_to


def test_a_sketch_that_lacks_a_beginning_still_tells_it_by_what_follows():
    router = routed(Load(token_s=1e-3), Load(token_s=1e-3, prefixes=frozenset(keys_of(TEXT, TENANT)[-1:])))
    assert {router.choose(opening()) for _ in range(3)} == {"b"}


def test_what_another_tenant_had_read_is_worth_nothing():
    """A verifier shares no pages between tenants, so it would read all of it again."""
    text_s = len(TEXT) * 1e-3
    router = routed(Load(token_s=1e-3), Load(token_s=1e-3, queue_s=0.5 * text_s, prefixes=frozenset(keys_of(TEXT, TENANT))))
    assert router.choose(opening()) == "b"
    assert router.choose(opening(tenant="another")) == "a"


def test_a_burst_between_two_reports_is_spread():
    router = routed(Load(token_s=1e-3), Load(token_s=1e-3, queue_s=0.25))
    texts = [np.arange(100) + 1000 * i for i in range(6)]
    chosen = [router.choose(opening(text)) for text in texts]
    assert chosen[0] == "a"
    assert chosen.count("b") >= 2


def test_a_text_is_followed_to_where_this_gateway_sent_it_before_any_report_says_so():
    router = Router(["a", "b", "c"])
    first = router.choose(opening())
    for _ in range(5):
        router.opened(first)
    longer = [*TEXT, *range(7)]
    assert {router.choose(opening(longer, has_begun=True)) for _ in range(4)} == {first}
    assert router.choose(opening(longer, has_begun=True), {first}) != first


def test_a_model_is_served_by_its_own_replicas_and_by_the_first_where_none_is_named():
    router = Router()
    router.follow(Routes(("one", "two"), (Replica("b", "two"), Replica("a", "one"))))
    assert router.choose(opening()) == "a"
    assert router.choose(opening(model="two")) == "b"
    with pytest.raises(Mismatch, match="'one' and 'two', not 'three'"):
        router.choose(opening(model="three"))
    router.follow(Routes(("one", "two"), (Replica("b", "two"),)))
    with pytest.raises(Unavailable):
        router.choose(opening())  # never another model's


def test_no_load_is_beyond_what_can_be():
    for wrong in (Load, math.nan), (Load, -1.0):
        with pytest.raises(InvalidInput):
            wrong[0](queue_s=wrong[1])
    with pytest.raises(InvalidInput):
        Load(occupancy=1.5)


class Cache:
    """A replica's pages, as many as it has room for: what it has to read of each text."""

    def __init__(self, num_pages):
        self.room, self.pages, self.num_read = num_pages, OrderedDict(), 0

    def read(self, text):
        keys = keys_of(text, TENANT)
        num_known = next((i for i, key in enumerate(keys) if key not in self.pages), len(keys))
        self.num_read += len(text) - num_known * PAGE_SIZE
        for key in reversed(keys):  # the beginning is the last to be forgotten
            self.pages[key] = None
            self.pages.move_to_end(key)
        while len(self.pages) > self.room:
            self.pages.popitem(last=False)


def conversations():
    """Forty of them, of eight turns each, in a seeded order: they begin with one of ten prompts and grow."""
    rng = np.random.default_rng(7)
    texts = [np.full(160, number % 10) for number in range(40)]
    for number in rng.permutation(np.repeat(np.arange(40), 8)):
        texts[number] = np.concatenate([texts[number], rng.integers(10, 1000, 40)])
        yield texts[number]


def num_read(router, reports_every):
    caches = {name: Cache(320) for name in "abcd"}
    for number, text in enumerate(conversations()):
        if reports_every and number % reports_every == 0:
            found = (Replica(name, "m", Load(token_s=1e-3, prefixes=frozenset(cache.pages))) for name, cache in caches.items())
            router.follow(Routes(("m",), tuple(found)))
        caches[router.choose(opening(text))].read(text)
    return sum(cache.num_read for cache in caches.values()), max(cache.num_read for cache in caches.values())


def test_replicas_read_less_than_half_of_what_they_read_in_turn_and_none_reads_it_all():
    in_turn, _ = num_read(Router("abcd"), 0)  # of which nothing is known
    routed, most = num_read(Router(), 8)
    assert routed < 0.5 * in_turn
    assert most < 0.5 * routed
