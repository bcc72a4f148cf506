import random

import pytest

from edge.stop_strings import StopStrings


def shown(stops, parts):
    """What is shown of `parts`, and whether they were stopped."""
    stopping, text = StopStrings(stops), ""
    for part in parts:
        passed, is_over = stopping.feed(part)
        text += passed
        if is_over:
            return text, True
    return text + stopping.end(), False


@pytest.mark.parametrize("seed", range(5))
def test_a_text_ends_before_the_first_stop_string_however_it_is_cut(seed):
    rng = random.Random(seed)
    for _ in range(300):
        text = "".join(rng.choices("ab", k=20))
        stops = ["".join(rng.choices("ab", k=rng.randint(2, 6))) for _ in range(2)]
        cuts = sorted(rng.sample(range(21), 6))
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, 20], strict=True)]
        places = [text.find(stop) for stop in stops if stop in text]
        passed, is_over = shown(stops, parts)
        assert is_over == bool(places)
        # Of two that overlap, the one that is whole first may begin later.
        assert passed == text[: len(passed)]
        assert not any(stop in passed for stop in stops)
        assert passed == text if not places else min(places) <= len(passed) <= max(places)


def test_only_what_may_become_a_stop_string_is_held_back():
    stopping = StopStrings(["\n\nUser:"])
    assert stopping.feed("Hello\n") == ("Hello", False)
    assert stopping.feed("\nUse") == ("", False)
    assert stopping.feed(" it") == ("\n\nUse it", False)
    assert stopping.feed("\n\nUser: x") == ("", True)
    assert stopping.num_passed == len("Hello\n\nUse it")


def test_without_stop_strings_all_passes_at_once():
    assert shown([], ["a", "", "b"]) == ("ab", False)
