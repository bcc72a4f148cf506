"""The random numbers are the published generator's, and each depends on its place alone."""

import numpy as np

from cactus_core.coins import SeededCoins, Site, draw_at
from cactus_core.noise import philox, uniform


def test_philox_gives_the_authors_known_answers():
    ones = 0xFFFFFFFF
    cases = [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ones, ones, ones, ones), ones << 32 | ones, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ]
    for counter, key, answer in cases:
        assert tuple(int(word) for word in philox(counter, key)) == answer


def test_uniform_numbers_are_below_one_and_spread_evenly():
    numbers = uniform((np.arange(20000), 0, 0, 0), 7)
    assert numbers.min() >= 0.0
    assert numbers.max() < 1.0
    assert np.abs(np.bincount((numbers * 10).astype(int)) / 2000 - 1).max() < 0.1


def test_a_coin_does_not_depend_on_what_else_is_in_the_batch():
    together = SeededCoins([3, 4, 5], [10, 20, 30]).draw(np.ones((3, 50)), Site.CORRECT, 0)
    alone = [SeededCoins([seed], [base]).draw(np.ones((1, 50)), Site.CORRECT, 0)[0] for seed, base in ((3, 10), (4, 20), (5, 30))]
    assert together.tolist() == alone


def test_a_wider_flip_keeps_the_lanes_it_had():
    coins = SeededCoins([9], [1])
    narrow, wide = (coins.flip(np.full((1, n), 0.5), Site.ACCEPT, 0) for n in (4, 9))
    assert (narrow == wide[:, :4]).all()


def test_coins_differ_by_seed_base_row_site_and_depth():
    def numbers(seed, base, row, site, depth):
        return SeededCoins([seed], [base], [row]).draw(np.ones((1, 1 << 20)), site, depth)[0]

    first = (1, 2, 0, Site.DRAFT, 0)
    others = [
        (2, 2, 0, Site.DRAFT, 0),
        (1, 3, 0, Site.DRAFT, 0),
        (1, 2, 1, Site.DRAFT, 0),
        (1, 2, 0, Site.CORRECT, 0),
        (1, 2, 0, Site.DRAFT, 1),
    ]
    assert len({numbers(*case) for case in [first, *others]}) == 6


def test_a_draw_never_returns_an_index_of_weight_zero():
    weights = np.array([[0.0, 0.5, 0.0, 0.5, 0.0]])
    for at in (0.0, 0.49999, 0.5, np.nextafter(1.0, 0.0), 1.0):
        assert weights[0, draw_at(weights, np.array([[at]]))[0]] > 0


def test_coins_thrown_for_several_depths_and_sessions_at_once_are_those_of_each_alone():
    coins = SeededCoins([3, 4, 5], [10, 20, 30], [0, 1, 2])
    for site in (Site.DRAFT, Site.CHOOSE, Site.CORRECT):
        for depth in (0, 3, 8, 21):
            some = coins.of(np.array([2, 0])).of(np.array([1, 0])).uniform(site, depth)
            place = site << 16 | depth
            assert some.tolist() == [float(uniform((10, 0, 0, place), 3)), float(uniform((30, 0, 2, place), 5))]


def test_coins_thrown_ahead_are_those_thrown_when_they_are_wanted():
    ahead, later = (SeededCoins([3, 4, 5], [10, 20, 30], [0, 1, 2]) for _ in range(2))
    ahead.throw_ahead(5)
    for num_lengths in (2, 5, 9):  # a batch's longest block is longer than most, and a rule may look further
        some = np.array([2, 0])
        half = np.full((2, num_lengths), 0.5)
        assert (ahead.of(some).flip(half, Site.ACCEPT, 0) == later.of(some).flip(half, Site.ACCEPT, 0)).all()
    assert (ahead.flip(np.full((3, 5), 0.5), Site.CHOOSE, 0) == later.flip(np.full((3, 5), 0.5), Site.CHOOSE, 0)).all()
    for site in (Site.CORRECT, Site.OFF_SUPPORT):
        assert ahead.uniform(site, 0).tolist() == later.uniform(site, 0).tolist()
