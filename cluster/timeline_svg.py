"""The picture of rounds in time as an SVG: lanes from the edge's drafts down to its tokens, and each message a line between them.

Knows spans and points; knows nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from cluster.timeline import Arrival, Picture, Span, ticks

_WIDTH, _LEFT, _RIGHT = 1080, 196, 90
_TOP, _BAR, _WAY = 84, 22, 54  # points: above the lanes, of a bar, of a way
_DOT, _MOST_DOTS = 5, 8  # points of a token's square, with its gap; as many are stacked
_ROW = _DOT * _MOST_DOTS + 14
_TICK = 90
_INK, _PALE = "#1f2933", "#7b8794"
_DRAFT, _STEP, _MESSAGE, _STANDS, _OWN = "#5b6ee1", "#e8a33d", "#2f9fb5", "#2e9e5b", "#9aa5b1"


def svg(picture: Picture) -> str:
    """A whole document, on a white ground."""
    first = picture.edges[0].within(picture.window)
    scale = _Scale(picture.window)
    lanes = [(f"edge {number} gets", course.within(picture.window).arrivals) for number, course in enumerate(picture.edges, 1)]
    lanes.append(("edge 1, cloud alone", picture.alone.within(picture.window).arrivals))
    drafts, cloud = _TOP, _TOP + _BAR + _WAY
    edge = cloud + _BAR + _WAY
    height = edge + _ROW * len(lanes) + 74
    padded = f", emulated: each step padded to {picture.step_at_least_s * 1e3:g} ms" if picture.step_at_least_s else ""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(16, 28, "Rounds in time", _INK, size=17, bold=True),
        _text(16, 48, f"Link {picture.link}. Verifier: the demo target{padded}.", _PALE),
        *_axis(scale, _TOP - 8, edge + _ROW * len(lanes)),
        _label(drafts + _BAR / 2, "edge 1 drafts"),
        *_bars(first.drafts, drafts, scale, _DRAFT),
        *([] if first.drafts else [_text(_LEFT + 6, drafts + 16, "sends none here", _PALE)]),
        _label(drafts + _BAR + _WAY / 2, "up (emulated)", _PALE),
        *_messages(first.up, drafts + _BAR, cloud, scale),
        _label(cloud + _BAR / 2, "cloud verifies" + (" (emulated)" if padded else "")),
        *_bars(first.steps, cloud, scale, _STEP),
        _label(cloud + _BAR + _WAY / 2, "down (emulated)", _PALE),
        *_messages(first.down, cloud + _BAR, edge, scale),
    ]
    for number, (name, arrivals) in enumerate(lanes):
        base = edge + _ROW * (number + 1) - 6
        parts.append(f'<line x1="{_LEFT}" y1="{base + 1}" x2="{_WIDTH - _RIGHT}" y2="{base + 1}" stroke="#cbd2d9"/>')
        parts += [_label(base - _DOT * 2, name), *_stacks(arrivals, base, scale)]
        parts.append(_text(_WIDTH - _RIGHT + 10, base - 4, f"{sum(came.num_tokens for came in arrivals)} tokens", _INK))
    return "\n".join([*parts, *_legend(height - 40), "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Scale:
    window: Span

    def __call__(self, moment_s: float) -> float:
        share = (moment_s - self.window.begin_s) / (self.window.end_s - self.window.begin_s)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def clipped(self, moment_s: float) -> float:
        return self(min(max(moment_s, self.window.begin_s), self.window.end_s))


def _text(x: float, y: float, words: str, colour: str, *, size: int = 13, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" font-size="{size}" text-anchor="{anchor}"{weight}>{escape(words)}</text>'


def _label(middle: float, words: str, colour: str = _INK) -> str:
    return _text(_LEFT - 12, middle + 4.5, words, colour, anchor="end")


def _axis(scale: _Scale, top: float, bottom: float) -> Iterator[str]:
    for moment in ticks(scale.window, (_WIDTH - _LEFT - _RIGHT) // _TICK):
        x = scale(moment)
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#eef1f4"/>'
        yield _text(x, top - 5, f"{moment:.2f} s", _PALE, size=12, anchor="middle")


def _bars(spans: Sequence[Span], top: float, scale: _Scale, colour: str) -> Iterator[str]:
    for span in spans:
        begin, end = scale.clipped(span.begin_s), scale.clipped(span.end_s)
        width = max(end - begin - 1.6, 1.5)  # a white line between one and the next
        yield f'<rect x="{begin:.1f}" y="{top}" width="{width:.1f}" height="{_BAR}" rx="2" fill="{colour}"/>'


def _messages(spans: Sequence[Span], top: float, bottom: float, scale: _Scale) -> Iterator[str]:
    """Clipped where the window is, along their slope."""
    for span in spans:
        ends = [(span.begin_s, top), (span.end_s, bottom)]
        length_s = span.end_s - span.begin_s
        for number, edge_s in enumerate((scale.window.begin_s, scale.window.end_s)):
            if length_s and span.begin_s < edge_s < span.end_s:
                ends[number] = (edge_s, top + (edge_s - span.begin_s) / length_s * (bottom - top))
        (x1, y1), (x2, y2) = ((scale(moment), y) for moment, y in ends)
        yield f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{_MESSAGE}" stroke-width="1.3"/>'


def _stacks(arrivals: Sequence[Arrival], base: float, scale: _Scale) -> Iterator[str]:
    """A square a token, drafted ones below; of more than are stacked the number stands above."""
    for came in arrivals:
        x = scale(came.at_s) - _DOT / 2
        for number in range(min(came.num_tokens, _MOST_DOTS)):
            colour = _STANDS if number < came.num_accepted else _OWN
            yield f'<rect x="{x:.1f}" y="{base - _DOT * (number + 1)}" width="{_DOT - 1}" height="{_DOT - 1}" fill="{colour}"/>'
        if came.num_tokens > _MOST_DOTS:
            yield _text(x, base - _DOT * _MOST_DOTS - 2, str(came.num_tokens), _INK, size=9)


def _legend(y: float) -> Iterator[str]:
    x = float(_LEFT)
    for colour, words in ((_STANDS, "a drafted token that stands"), (_OWN, "a token of the cloud's own")):
        yield f'<rect x="{x}" y="{y - 9}" width="9" height="9" fill="{colour}"/>'
        yield _text(x + 15, y, words, _INK)
        x += 215
    yield _text(_LEFT, y + 22, "What the edge did is measured; what link and cloud did is placed by it.", _PALE)
