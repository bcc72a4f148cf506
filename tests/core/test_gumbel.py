"""The shared noise depends on its place alone, is always finite, and is nobody's coin."""

import numpy as np
import pytest

from cactus_core import coins
from cactus_core import gumbel as module
from cactus_core.coins import SeededCoins, Site
from cactus_core.gumbel import gumbel


def test_a_handful_of_tokens_has_the_noise_of_the_whole_vocabulary():
    whole = gumbel(5, np.array([[10], [11]]), np.arange(3000))
    assert gumbel(5, 11, np.array([2999, 4, 77])).tolist() == whole[1, [2999, 4, 77]].tolist()


def test_noise_differs_by_seed_position_and_token():
    places = [(1, 2, 3), (2, 2, 3), (1 + (1 << 63), 2, 3), (1, 3, 3), (1, 2, 4), (1, 3, 2)]
    assert len({float(gumbel(*place)) for place in places}) == len(places)


def test_noise_follows_the_law_of_gumbel():
    noise = np.sort(gumbel(3, np.arange(20)[:, None], np.arange(1000)).ravel())
    assert np.abs(np.exp(-np.exp(-noise)) - (np.arange(noise.size) + 0.5) / noise.size).max() < 1.6 / noise.size**0.5
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.03)


@pytest.mark.parametrize(("number", "bound"), [(0.0, -3.7), (1.0 - 2.0**-53, 36.8)])
def test_noise_is_finite_at_both_ends_of_the_generator(monkeypatch, number, bound):
    monkeypatch.setattr(module, "uniform", lambda counter, key: np.array(number))
    assert float(gumbel(0, 0, 0)) == pytest.approx(bound, abs=0.1)


def test_no_coin_is_thrown_at_a_place_of_the_noise(monkeypatch):
    last_words = []

    def listening(counter, key):
        last_words.extend(np.ravel(counter[3]).tolist())
        return np.full(np.broadcast_shapes(*(np.shape(word) for word in counter), np.shape(key)), 0.5)

    monkeypatch.setattr(coins, "uniform", listening)
    monkeypatch.setattr(module, "uniform", listening)
    gumbel(0, 0, 0)
    for site in set(Site) - {Site.GUMBEL}:
        for depth in (0, 1, (1 << 16) - 1):
            SeededCoins([0], [0]).draw(np.ones((1, 2)), site, depth)
    place, *others = last_words
    assert place not in others
    assert place >> 16 not in {word >> 16 for word in others}
