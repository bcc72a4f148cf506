"""The picture of rounds in time for a terminal: a lane a row, read downwards as a round goes; half a column is the least that shows.

Knows spans and columns; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from cluster.timeline import Arrival, Picture, Span, ticks

_LABEL, _TOTAL = 16, 11  # columns beside the lanes
_LEAST = 20  # columns of the lanes themselves
_TICK = 9  # columns at least from one moment that is named to the next
_MOST_ROWS = 4  # of a way
_DRAFTS, _CLOUD, _WAY = ("blue", "bright_blue"), ("yellow", "bright_yellow"), "cyan"


def drawn(picture: Picture, width: int) -> Text:
    """Lines of `width` columns at most; never narrower than 47."""
    columns = max(width - _LABEL - _TOTAL, _LEAST)
    window = picture.window
    first = picture.edges[0].within(window)
    lines = [
        _line("", _axis(window, columns)),
        _line("edge 1 drafts", _blocks(first.drafts, window, columns, _DRAFTS) if first.drafts else Text("sends none here", "dim")),
        *_way("up °", first.up, window, columns),
        _line("cloud verifies" + (" °" if picture.step_at_least_s else ""), _blocks(first.steps, window, columns, _CLOUD)),
        *_way("down °", first.down, window, columns),
    ]
    for number, course in enumerate(picture.edges, 1):
        lines.append(_tokens(f"edge {number} gets" if number == 1 else f"edge {number}", course.within(window).arrivals, window, columns))
    lines.append(_tokens("1, cloud alone", picture.alone.within(window).arrivals, window, columns))
    return Text("\n").join([*lines, *_legend(picture)])


def _line(label: str, lane: Text, total: str = "") -> Text:
    return Text.assemble((f"{label:<{_LABEL}}", "bold"), lane, (f"{total:>{_TOTAL}}", "dim") if total else "")


def _axis(window: Span, columns: int) -> Text:
    row = [" "] * columns
    for moment in ticks(window, columns // _TICK):
        column = int((moment - window.begin_s) / (window.end_s - window.begin_s) * columns)
        name = f"╷{moment:.2f} s"
        if column <= columns - len(name):
            row[column : column + len(name)] = name
    return Text("".join(row), "dim")


def _blocks(spans: Sequence[Span], window: Span, columns: int, colours: tuple[str, str]) -> Text:
    """Bars, each at least half a column; neighbours differ in shade."""
    halves: list[int | None] = [None] * (2 * columns)
    scale = len(halves) / (window.end_s - window.begin_s)
    for number, span in enumerate(spans):
        begin = min(max(round((span.begin_s - window.begin_s) * scale), 0), len(halves) - 1)
        end = min(max(round((span.end_s - window.begin_s) * scale), begin + 1), len(halves))
        halves[begin:end] = [number] * (end - begin)
    lane = Text()
    for left, right in zip(halves[::2], halves[1::2], strict=True):
        if left is None and right is None:
            lane.append(" ")
        elif left == right and left is not None:
            lane.append("█", colours[left % 2])
        elif left is None:
            lane.append("▐", colours[(right or 0) % 2])
        elif right is None:
            lane.append("▌", colours[left % 2])
        else:
            lane.append("▌", f"{colours[left % 2]} on {colours[right % 2]}")
    return lane


def _way(label: str, spans: Sequence[Span], window: Span, columns: int) -> list[Text]:
    """Messages on their way, each a stroke that falls as time goes on."""
    column_s = (window.end_s - window.begin_s) / columns
    longest_s = max((span.end_s - span.begin_s for span in spans), default=0.0)
    num_rows = min(max(round(longest_s / column_s), 1), _MOST_ROWS)
    rows = [[" "] * columns for _ in range(num_rows)]
    for span in spans:
        for number, row in enumerate(rows):
            moment = span.begin_s + (number + 0.5) / num_rows * (span.end_s - span.begin_s)
            column = int((moment - window.begin_s) // column_s)
            if 0 <= column < columns:
                row[column] = "╲"
    return [_line(label if not number else "", Text("".join(row), _WAY)) for number, row in enumerate(rows)]


def _tokens(label: str, arrivals: Sequence[Arrival], window: Span, columns: int) -> Text:
    """How many tokens came, as a digit where they did."""
    counts, drafted = [0] * columns, [False] * columns
    for came in arrivals:
        column = min(int((came.at_s - window.begin_s) / (window.end_s - window.begin_s) * columns), columns - 1)
        counts[column] += came.num_tokens
        drafted[column] |= came.num_accepted > 0
    lane = Text()
    for count, is_drafted in zip(counts, drafted, strict=True):
        lane.append("·" if not count else str(count) if count < 10 else "+", "dim" if not count else "bold green" if is_drafted else "")
    return _line(label, lane, f"{sum(counts)} tokens")


def _legend(picture: Picture) -> list[Text]:
    return [
        Text.assemble(("Digits are tokens that came at once; ", "dim"), ("green", "bold green"), (": drafts among them stood.", "dim")),
        Text(f"° emulated: {'; '.join(picture.emulated)}", "dim"),
        Text("What the edge did is measured; what link and cloud did is placed by it.", "dim"),
    ]
