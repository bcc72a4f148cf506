"""Laws as bytes, near the fewest that can name them: which bits these are stands beside `Laws` in the protocol's proto.

The ids of all laws together travel once, as one ascending list; each law names its own by their places in it. What is
unary stands before what is not, so that all laws are read at once. Knows nothing of protobuf.

N laws with ids below V take at most `N (11 + log2 V + V / 2**15) + (14 + 2 log2 V + V / 2**15)` bits, whatever they are, and
`S (10.2 + log2(V / S) + log2(2**bits / S))` for each on S tokens: of what a draft makes, about half of that.
"""

from __future__ import annotations

import numpy as np

from cactus_core.coins import Ints
from cactus_core.errors import InvalidInput
from cactus_core.lattice import MAX_BITS, LatticeLaws
from cactus_core.wire import codes
from cactus_core.wire.bits import BitReader, fields, packed, unary

_MAX_ID_BITS = 24


def encode_laws(laws: LatticeLaws) -> bytes:
    """Raises `InvalidInput` for an id of 2**24 or more."""
    if len(laws.ids) == 0:
        return b""
    used, sizes = laws.counts > 0, laws.sizes
    ids = laws.ids[used]
    if ids.max() >> _MAX_ID_BITS:
        raise InvalidInput(f"a law names token {ids.max()}, but ids must be below 2^{_MAX_ID_BITS}")
    named = np.zeros(ids.max() + 1, dtype=np.bool_)
    named[ids] = True
    listed = np.flatnonzero(named)
    place_of = np.empty(len(named), dtype=np.int64)
    place_of[listed] = np.arange(len(listed))

    some, several = sizes < len(listed), sizes > 1  # other laws need no places, or no count
    row_lengths, count_lengths = np.append(len(listed), sizes[some]), sizes[several]
    gaps = codes.to_gaps(np.append(listed, place_of[laws.ids[used & some[:, None]]]), row_lengths)
    gap_codes = codes.best_gap_codes(gaps, row_lengths)
    gap_widths = codes.remainder_widths(gap_codes, row_lengths)
    counts = laws.counts[used & several[:, None]]
    orders = codes.best_orders(counts, count_lengths)
    classes, shifted = codes.to_classes(counts, orders, count_lengths)
    count_widths = codes.mantissa_widths(classes, orders, count_lengths)
    count_widths[codes.where_implied(classes, count_lengths)] = 0
    log = np.array([len(listed).bit_length() - 1])
    return packed(
        unary(log),
        fields(np.append(len(listed), sizes - 1), np.append(log, _size_widths(len(sizes), len(listed)))),
        fields(np.append(gap_codes, orders), _code_widths(len(gap_codes), len(orders))),
        unary(np.append(gaps >> gap_widths, classes)),
        fields(np.append(gaps, shifted), np.append(gap_widths, count_widths)),
    )


def decode_laws(data: bytes, num_laws: int, bits: int, max_support: int, max_tokens: int) -> LatticeLaws:
    """The laws in `data`, `num_laws` of them, in counts that add up to 2**`bits`.

    Raises `InvalidInput` where `data` holds anything else, or more than `max_support` tokens in a law or `max_tokens` in all
    of them, each law being as wide as the widest. Time and memory are bounded by `data` and by these, whatever it says.
    """
    if not 0 < bits <= MAX_BITS:
        raise InvalidInput(f"a law's bits must be between 1 and {MAX_BITS}, not {bits}")
    reader = BitReader(data)
    if num_laws == 0:
        reader.close()
        nothing = np.zeros((0, 0), dtype=np.int64)
        return LatticeLaws(nothing, nothing, bits)
    log = reader.unary(1)
    if log[0] >= _MAX_ID_BITS:
        raise InvalidInput(f"laws name 2^{log[0]} ids or more, but ids must be below 2^{_MAX_ID_BITS}")
    num_listed = int((1 << log[0]) + reader.fields(log)[0])
    sizes = reader.fields(_size_widths(num_laws, num_listed)) + 1
    if sizes.max() > max_support:
        raise InvalidInput(f"a law's support may hold at most {max_support} tokens, not {sizes.max()}")
    if num_laws * sizes.max() > max_tokens:
        raise InvalidInput(
            f"{num_laws} laws on up to {sizes.max()} tokens are more than the {max_tokens} tokens that a block's laws may have; "
            "draft fewer paths, shorter ones, or from narrower laws"
        )
    if not sizes.max() <= num_listed <= sizes.sum():
        raise InvalidInput(f"{num_listed} ids cannot be those of laws on {sizes.sum()} tokens, {sizes.max()} at most")
    some, several = sizes < num_listed, sizes > 1
    row_lengths, count_lengths = np.append(num_listed, sizes[some]), sizes[several]
    head = reader.fields(_code_widths(len(row_lengths), len(count_lengths)))
    gap_codes, orders = head[: len(row_lengths)], head[len(row_lengths) :]

    num_gaps = int(row_lengths.sum())
    first = reader.unary(num_gaps + int(count_lengths.sum()))
    quotients, classes = first[:num_gaps], first[num_gaps:]
    gap_widths = codes.remainder_widths(gap_codes, row_lengths)
    count_widths = codes.mantissa_widths(classes, orders, count_lengths)
    implied = codes.where_implied(classes, count_lengths)
    sent = np.append(gap_widths, count_widths)
    sent[num_gaps + implied] = 0
    rest = reader.fields(sent)
    reader.close()
    numbers = codes.from_gaps((quotients << gap_widths) + rest[:num_gaps], row_lengths)
    listed, places = numbers[:num_listed], numbers[num_listed:]
    if listed[-1] >> _MAX_ID_BITS:
        raise InvalidInput(f"a law names token {listed[-1]}, but ids must be below 2^{_MAX_ID_BITS}")
    if places.max(initial=0) >= num_listed:
        raise InvalidInput(f"a law names id {places.max()} of {num_listed}")

    used = np.arange(sizes.max()) < sizes[:, None]
    ids, counts = np.zeros((2, *used.shape), dtype=np.int64)
    ids[used & some[:, None]] = listed[places]
    if not some.all():
        ids[~some] = listed
    counts[~several, 0] = 1 << bits
    counts[used & several[:, None]] = codes.from_classes(rest[num_gaps:], count_widths, orders, count_lengths, implied, 1 << bits)
    return LatticeLaws(ids, counts, bits)


def bytes_alone(laws: LatticeLaws) -> Ints:
    """How many bytes each law takes where it travels alone, `[N]`."""
    rows = zip(laws.ids, laws.counts, laws.sizes, strict=True)
    alone = [LatticeLaws(ids[None, :size], counts[None, :size], laws.bits) for ids, counts, size in rows]
    return np.array([len(encode_laws(law)) for law in alone], dtype=np.int64)


def _size_widths(num_laws: int, num_listed: int) -> Ints:
    return np.full(num_laws, (num_listed - 1).bit_length())


def _code_widths(num_rows: int, num_orders: int) -> Ints:
    return np.repeat([codes.GAP_CODE_BITS, codes.ORDER_BITS], [num_rows, num_orders])
