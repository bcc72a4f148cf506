"""Coupled trees as bytes: which bits these are stands beside `DraftTree` in the protocol's proto.

Ids are low more often than not, and drafts say the same thing at several places: an id is sent in fewer bits the lower it is,
and once. The order of nodes is kept, which is where a drafter says what it thinks likeliest. Knows nothing of protobuf.

N nodes with ids below V take at most `N (5 + log2 V + log2 N) + 12` bits, whatever they are.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Bools, Ints
from cactus_core.errors import InvalidInput
from cactus_core.wire.bits import BitReader, fields, packed, unary
from cactus_core.wire.codes import to_classes

_MAX_ID_BITS = 24
_ORDER_BITS = 5
_ORDERS = np.arange(_MAX_ID_BITS)  # higher ones would only add bits


def encode_tree(tokens: Ints, parents: Ints) -> bytes:
    """Raises `InvalidInput` for an id of 2**24 or more."""
    if len(tokens) == 0:
        return b""
    if tokens.max() >> _MAX_ID_BITS:
        raise InvalidInput(f"a tree names token {tokens.max()}, but ids must be below 2^{_MAX_ID_BITS}")
    _, first, of = np.unique(tokens, return_index=True, return_inverse=True)
    is_new = np.zeros(len(tokens), dtype=np.bool_)
    is_new[first] = True
    place = (np.cumsum(is_new) - 1)[first[of]]  # of each node's id among the new
    ids = tokens[is_new]
    # All orders are tried: a number takes class + 1 bits in unary, and class + order in its field.
    classes, shifted = to_classes(np.tile(ids + 1, len(_ORDERS)), _ORDERS, np.full(len(_ORDERS), len(ids)))
    classes, shifted = classes.reshape(len(_ORDERS), -1), shifted.reshape(len(_ORDERS), -1)
    order = int((2 * classes.sum(-1) + _ORDERS * len(ids)).argmin())
    return packed(
        fields(1 - is_new[1:], np.ones(len(tokens) - 1, dtype=np.int64)),
        fields(np.array([order]), np.array([_ORDER_BITS])),
        unary(classes[order]),
        fields(
            np.concatenate([shifted[order], place[~is_new], parents + 1]),
            np.concatenate([classes[order] + order, _place_widths(is_new), _parent_widths(len(tokens))]),
        ),
    )


def decode_tree(data: bytes, num_nodes: int) -> tuple[Ints, Ints]:
    """Tokens and parents `[N]` in `data`, N = `num_nodes`: ids below 2**24, and parents that may be anything from -1 to 2N.

    Raises `InvalidInput` where `data` holds anything else. Time and memory are bounded by `num_nodes`, whatever `data` is.
    """
    if 8 * len(data) > num_nodes * (2 * _MAX_ID_BITS + 2 + num_nodes.bit_length()) + _ORDER_BITS + 7:
        raise InvalidInput(f"{len(data)} bytes are more than {num_nodes} nodes can take")
    reader = BitReader(data)
    if num_nodes == 0:
        reader.close()
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    is_new = np.append([True], reader.fields(np.ones(num_nodes - 1, dtype=np.int64)) == 0)
    num_new = int(is_new.sum())
    order = reader.fields(np.array([_ORDER_BITS]))
    classes = reader.unary(num_new)
    if classes.max() + order[0] > _MAX_ID_BITS:
        raise InvalidInput(f"a tree's ids must be below 2^{_MAX_ID_BITS}")
    widths = np.concatenate([classes + order, _place_widths(is_new), _parent_widths(num_nodes)])
    new, places, above = np.split(reader.fields(widths), [num_new, num_nodes])
    reader.close()
    ids = new + (1 << classes + order) - (1 << order)
    if ids.max() >> _MAX_ID_BITS:
        raise InvalidInput(f"a tree's ids must be below 2^{_MAX_ID_BITS}, not {ids.max()}")
    if (places >= np.cumsum(is_new)[~is_new]).any():
        raise InvalidInput("a tree's node has the id of a node that does not come before it")
    tokens = np.empty(num_nodes, dtype=np.int64)
    tokens[is_new], tokens[~is_new] = ids, ids[places]
    return tokens, above - 1


def _place_widths(is_new: Bools) -> Ints:
    """Of each node that is not new: the bits that tell the new ones before it from each other."""
    return _num_bits(np.cumsum(is_new)[~is_new] - 1)


def _parent_widths(num_nodes: int) -> Ints:
    return _num_bits(np.arange(num_nodes))


def _num_bits(values: Ints) -> Ints:
    """Of values below 2**53, which float64 holds exactly."""
    return np.frexp(values)[1].astype(np.int64)
