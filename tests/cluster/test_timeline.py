"""Rounds in time: where spans are placed, and what cells and points they are drawn with."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.timeline import Course, Picture, Span, course_of, middle, ticks
from cluster.timeline_svg import svg
from cluster.timeline_text import drawn

SECONDS = st.floats(0.0, 0.5)


def a_round(at_s, *, verify_s=0.03, draft_s=0.0, wait_s=0.05, num_tokens=1, num_accepted=0):
    found = {"at_s": at_s, "verify_s": verify_s, "draft_s": draft_s, "wait_s": wait_s}
    return found | {"num_tokens": num_tokens, "num_accepted": num_accepted}


def ends(spans):
    return [pytest.approx((span.begin_s, span.end_s)) for span in spans]


def picture(edges, alone, *, window=None, one_way_s=0.02, step_at_least_s=0.0):
    return Picture("near", one_way_s, step_at_least_s, window or Span(0.0, 1.0), tuple(edges), alone)


def lines(shown):
    return shown.plain.split("\n")


NOTHING = course_of([], 0.02)
ONE = course_of([a_round(0.5, draft_s=0.1, wait_s=0.3, num_tokens=4, num_accepted=3)], 0.1)


def test_a_round_goes_from_drafting_up_through_the_step_and_down():
    course = course_of([a_round(1.0, draft_s=0.1, wait_s=0.09, verify_s=0.05, num_tokens=3, num_accepted=2)], 0.02)
    assert ends(course.drafts) == [(0.81, 0.91)]
    assert ends(course.up) == [(0.91, 0.93)]
    assert ends(course.steps) == [(0.93, 0.98)]
    assert ends(course.down) == [(0.98, 1.0)]
    assert [(came.at_s, came.num_tokens, came.num_accepted) for came in course.arrivals] == [(1.0, 3, 2)]


def test_a_round_without_drafts_sends_nothing_up():
    course = course_of([a_round(0.1), a_round(0.2)], 0.02)
    assert (course.drafts, course.up) == ((), ())
    assert len(course.steps) == len(course.down) == 2


def test_a_decision_that_was_taken_in_late_is_placed_before_the_next_step():
    course = course_of([a_round(0.1), a_round(0.11)], 0.02)
    assert ends(course.steps) == [(0.03, 0.06), (0.06, 0.09)]
    assert ends(course.down) == [(0.06, 0.1), (0.09, 0.11)]


@given(st.lists(st.tuples(SECONDS, SECONDS, SECONDS, SECONDS), max_size=20), st.floats(0.0, 0.1))
def test_neither_an_edge_nor_a_session_does_two_things_at_once(gaps, one_way_s):
    at_s, rounds = 0.0, []
    for gap_s, verify_s, draft_s, wait_s in gaps:
        at_s += gap_s
        rounds.append(a_round(at_s, verify_s=verify_s, draft_s=draft_s, wait_s=min(wait_s, gap_s)))
    course = course_of(rounds, one_way_s)
    for lane in (course.drafts, course.steps):
        assert all(span.begin_s <= span.end_s for span in lane)
        assert all(before.end_s <= after.begin_s for before, after in pairwise(lane))
    assert all(span.end_s - span.begin_s >= one_way_s - 1e-9 for span in course.down)


def test_the_window_is_the_middle_of_the_shortest_course():
    long, short = (course_of([a_round(end_s)], 0.0) for end_s in (9.0, 3.0))
    assert middle([long, short], 1.0) == Span(1.0, 2.0)
    assert middle([long, course_of([a_round(0.4)], 0.0)], 1.0) == Span(0.0, 0.4)


def test_a_window_shows_what_meets_it_and_counts_what_came_in_it():
    course = course_of([a_round(at / 10, num_tokens=at) for at in range(1, 10)], 0.02).within(Span(0.36, 0.64))
    assert [came.num_tokens for came in course.arrivals] == [4, 5, 6]
    assert course.num_tokens == 15
    assert len(course.steps) == 3
    assert isinstance(course, Course)


@given(st.floats(0.0, 50.0), st.floats(0.01, 4.0), st.integers(2, 12))
def test_ticks_are_in_the_window_evenly_apart_and_few(begin_s, length_s, most):
    window = Span(begin_s, begin_s + length_s)
    found = ticks(window, most)
    assert len(found) <= most + 1
    assert all(window.begin_s - 1e-9 <= moment <= window.end_s + 1e-9 for moment in found)
    assert len({round(after - before, 6) for before, after in pairwise(found)}) <= 1


def test_a_round_is_drawn_from_the_drafts_down_to_the_tokens():
    _, drafts, *up, cloud, down, _, gets, alone, _, _, _ = lines(drawn(picture([ONE], NOTHING, one_way_s=0.1), 16 + 20 + 11))
    lane = slice(16, 36)  # a column is 50 ms
    assert drafts[lane] == "  ██" + " " * 16
    assert [row[lane].rstrip() for row in up] == ["    ╲", "     ╲"]
    assert cloud[lane].rstrip() == " " * 7 + "▐"
    assert down[lane].rstrip() == " " * 8 + "╲"
    assert gets[lane] == "·" * 10 + "4" + "·" * 9
    assert gets.endswith(" 4 tokens")
    assert alone[lane] == "·" * 20


def test_neighbours_that_meet_within_a_column_differ_also_without_colours():
    course = course_of([a_round(0.545, verify_s=0.275), a_round(0.77, verify_s=0.225)], 0.02)
    row = next(line for line in lines(drawn(picture([course], NOTHING), 47)) if line.startswith("cloud"))
    assert "█▌█" in row


def test_more_than_nine_tokens_in_a_column_are_a_plus():
    course = course_of([a_round(0.5, num_tokens=6), a_round(0.51, num_tokens=6)], 0.02)
    row = next(line for line in lines(drawn(picture([course], NOTHING), 47)) if line.startswith("edge 1 gets"))
    assert "+" in row
    assert row.endswith("12 tokens")


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_line_is_wider_than_the_terminal(width):
    shown = drawn(picture([ONE, ONE, ONE], ONE, step_at_least_s=0.03), width)
    assert max(map(len, lines(shown))) <= width


def test_what_is_emulated_is_labelled_where_it_stands():
    plain, padded = (drawn(picture([ONE], ONE, step_at_least_s=seconds), 100).plain for seconds in (0.0, 0.03))
    assert "up °" in plain
    assert "cloud verifies °" not in plain
    assert "cloud verifies °" in padded
    assert "° emulated: the link, 20 ms each way; steps, padded to 30 ms" in padded
    plain, padded = (svg(picture([ONE], ONE, step_at_least_s=seconds)) for seconds in (0.0, 0.03))
    assert "up (emulated)" in plain
    assert "cloud verifies (emulated)" not in plain
    assert "cloud verifies (emulated)" in padded


def test_an_edge_that_sends_no_drafts_says_so():
    quiet = course_of([a_round(0.5)], 0.02)
    assert "sends none here" in drawn(picture([quiet], quiet), 80).plain
    assert "sends none here" in svg(picture([quiet], quiet))


def test_the_svg_is_well_formed_and_has_a_square_for_each_token_within_its_frame():
    root = ET.fromstring(svg(picture([ONE, ONE], NOTHING, window=Span(0.1, 0.55), one_way_s=0.1)))  # noqa: S314  # ours
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    squares = [shape for shape in root.iter() if shape.tag.endswith("rect") and shape.get("width") == shape.get("height")]
    assert len(squares) == 2 * 4 + 2  # and the legend's two
    numbers = {name: [float(shape.get(name)) for shape in root.iter() if shape.get(name)] for name in ("x", "x1", "x2", "y", "y1", "y2")}
    assert min(map(min, numbers.values())) >= 0
    assert max(numbers["x"] + numbers["x1"] + numbers["x2"]) <= width
    assert max(numbers["y"] + numbers["y1"] + numbers["y2"]) <= height


def test_a_name_with_marks_in_it_is_escaped():
    odd = Picture("<a & b>", 0.0, 0.0, Span(0.0, 1.0), (ONE,), ONE)
    assert re.search("&lt;a &amp; b&gt;", svg(odd))
