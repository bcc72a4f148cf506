from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cloud.prefixes import PrefixCache, page_key, scope_key

contents = st.tuples(st.text(max_size=3), st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=2), max_size=3))


def key_of(content: tuple[str, list[list[int]]]) -> bytes:
    scope, pages = content
    key = scope_key(scope)
    for tokens in pages:
        key = page_key(key, tokens)
    return key


@given(one=contents, other=contents)
def test_two_keys_are_equal_where_scopes_and_all_pages_up_to_there_are(one, other):
    assert (key_of(one) == key_of(other)) == (one == other)


def test_no_scope_can_be_named_like_a_page():
    parent, tokens = b"p" * 32, [int.from_bytes(b"abcdefgh", "little")] * 16
    assert scope_key((parent + b"abcdefgh" * 16).decode()) != page_key(parent, tokens)


def three_known() -> tuple[PrefixCache, list[bytes]]:
    cache, keys = PrefixCache(), [scope_key(name) for name in "abc"]
    for page, key in enumerate(keys):
        cache.learn(key, page)
    return cache, keys


def test_who_was_held_least_recently_is_forgotten_first():
    cache, keys = three_known()
    for page in (1, 0, 2):
        cache.idle(page)
    cache.wake(1)
    cache.idle(1)
    assert [cache.forget_oldest() for _ in range(3)] == [0, 2, 1]
    assert [cache.find(key) for key in keys] == [None, None, None]
    assert 0 not in cache


def test_what_is_held_is_never_forgotten():
    cache, keys = three_known()
    cache.idle(0)
    cache.idle(1)
    cache.wake(0)
    assert cache.num_idle == 1
    assert cache.forget_oldest() == 1
    assert (cache.num_idle, cache.find(keys[0]), cache.find(keys[2])) == (0, 0, 2)
