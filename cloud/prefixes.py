"""Which page holds which content: how texts that begin alike share what was read once.

A page's content depends on its own tokens and on all before them, so that its key is a digest chained page by page. Known
pages are kept while somebody holds them and, after that, until their room is wanted: first goes what was held least recently.
Knows tokens, digests and page numbers; knows nothing of tensors, sessions or models.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np

_DIGEST_BYTES = 32  # whoever finds a collision could be given another's text


def scope_key(scope: str) -> bytes:
    """The key before a text's first page. Texts of different scopes share nothing."""
    return blake2b(scope.encode(), digest_size=_DIGEST_BYTES, person=b"scope").digest()


def page_key(parent: bytes, tokens: Sequence[int]) -> bytes:
    """The key of the page with `tokens`, all that a page takes, that follows the page or the scope of key `parent`."""
    return blake2b(parent + np.asarray(tokens, dtype="<i8").tobytes(), digest_size=_DIGEST_BYTES, person=b"page").digest()


class PrefixCache:
    """Pages known by their content: a key names at most one page, and a page has at most one key.

    A known page is held or idle. Whoever holds a page holds those before it too, and lets go of them after it: the longest
    idle page is never one that another known page follows.
    """

    def __init__(self) -> None:
        self._page_of: dict[bytes, int] = {}  # longest unused first
        self._key_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # longest idle first

    @property
    def num_idle(self) -> int:
        return len(self._idle)

    def __contains__(self, page: int) -> bool:
        return page in self._key_of

    def find(self, key: bytes) -> int | None:
        page = self._page_of.pop(key, None)
        if page is not None:
            self._page_of[key] = page
        return page

    def recent(self, num_keys: int) -> list[bytes]:
        """At most so many keys, those that were learned or found last. Any thread may ask."""
        return list(self._page_of)[-num_keys:]

    def learn(self, key: bytes, page: int) -> None:
        """A held page is known from now on. Neither it nor the key was."""
        self._page_of[key] = page
        self._key_of[page] = key

    def idle(self, page: int) -> None:
        """Nobody holds a known page any more."""
        self._idle[page] = None

    def wake(self, page: int) -> None:
        """An idle page is held again."""
        del self._idle[page]

    def forget_oldest(self) -> int:
        """The longest idle page, known no more."""
        page, _ = self._idle.popitem(last=False)
        del self._page_of[self._key_of.pop(page)]
        return page
