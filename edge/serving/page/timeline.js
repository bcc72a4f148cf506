// Rounds in time: what each did when. Knows rounds and a canvas; knows nothing of texts.

import { withNextFrame } from "./frame.js";

const LANES = ["draft", "up", "queue", "verify", "down"];
const SAID = { draft: "drafting", up: "up", queue: "queue", verify: "verifying", down: "down" };
const LABEL_PX = 70;
const AXIS_PX = 22;
const TICK_PX = 130; // so far apart at the least
const STEPS_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600];

export class Timeline {
  // `onRound` gets the place of a round that is pointed at or moved to and what is to be said of it; null, null when none is any more.
  constructor(canvas, onRound) {
    this.canvas = canvas;
    this.onRound = onRound;
    this.later = withNextFrame(() => this.draw());
    new ResizeObserver(this.later).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.later);
    for (const kind of ["pointerdown", "pointermove"]) canvas.addEventListener(kind, (event) => this.tell(this.placeAt(event.offsetX)));
    canvas.addEventListener("pointerleave", ({ pointerType }) => pointerType === "mouse" && this.tell(null)); // a finger only points in passing
    canvas.addEventListener("blur", () => this.tell(null));
    canvas.addEventListener("keydown", (event) => this.move(event));
    this.clear();
  }

  clear() {
    this.rounds = [];
    this.here = null;
    this.later();
  }

  // Returns its place.
  add(round) {
    this.rounds.push(round);
    this.later();
    return this.rounds.length - 1;
  }

  mark(place) {
    if (place === this.here) return;
    this.here = place;
    this.later();
  }

  tell(place) {
    if (place === this.here) return;
    this.mark(place);
    this.onRound(place, place === null ? null : said(this.rounds[place], place));
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity }[event.key];
    const last = this.rounds.length - 1;
    if (step === undefined || last < 0) return;
    event.preventDefault();
    const from = this.here ?? (step > 0 ? -1 : last + 1);
    this.tell(Math.min(Math.max(from + step, 0), last));
  }

  get lastsMs() {
    return Math.max(this.rounds.at(-1)?.at_ms ?? 0, 1000);
  }

  placeAt(x) {
    const ms = ((x - LABEL_PX) / (this.canvas.clientWidth - LABEL_PX)) * this.lastsMs;
    const place = ms < 0 ? -1 : this.rounds.findIndex((round) => round.at_ms >= ms);
    return place < 0 ? null : place;
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = devicePixelRatio;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const colours = Object.fromEntries([...LANES, "quiet", "line", "marked"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
    pen.scale(scale, scale);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const lane = (height - AXIS_PX) / LANES.length;
    const x = (ms) => LABEL_PX + (Math.max(ms, 0) / this.lastsMs) * (width - LABEL_PX);
    const here = this.rounds[this.here];
    if (here) {
      const start = Math.min(...parts(here).map(([, from]) => from));
      pen.fillStyle = colours.marked;
      pen.fillRect(x(start) - 2, 0, x(here.at_ms) - x(start) + 4, height - AXIS_PX);
    }
    LANES.forEach((name, place) => {
      pen.fillStyle = colours.quiet;
      pen.fillText(SAID[name], 0, lane * (place + 0.5));
      pen.fillStyle = colours.line;
      pen.fillRect(LABEL_PX, Math.round(lane * (place + 1)) - 1, width - LABEL_PX, 1);
    });
    for (const round of this.rounds) {
      pen.globalAlpha = here && round !== here ? 0.6 : 1;
      for (const [name, start, end] of parts(round)) {
        pen.fillStyle = colours[name];
        pen.fillRect(x(start), lane * LANES.indexOf(name) + 5, Math.max(x(end) - x(start), 1), lane - 10);
      }
    }
    pen.globalAlpha = 1;
    this.drawTicks(pen, colours.quiet, x, width, height - AXIS_PX / 2 + 2);
    this.describe();
  }

  drawTicks(pen, colour, x, width, y) {
    pen.fillStyle = colour;
    const fewest = (this.lastsMs / 1000) * (TICK_PX / (width - LABEL_PX));
    const step = STEPS_S.find((each) => each >= fewest) ?? STEPS_S.at(-1);
    for (let tick = 0; tick * step * 1000 <= this.lastsMs; tick += 1) {
      const label = `${(tick * step).toFixed(step < 1 ? 1 : 0)} s`;
      const half = pen.measureText(label).width / 2;
      const middle = x(tick * step * 1000);
      pen.fillRect(middle, y - AXIS_PX / 2 - 2, 1, 4);
      pen.fillText(label, tick ? Math.min(middle - half, width - 2 * half) : middle, y);
    }
  }

  describe() {
    const num = this.rounds.length;
    const told = num ? `${num} rounds in ${(this.lastsMs / 1000).toFixed(2)} seconds` : "no rounds yet";
    this.canvas.setAttribute("aria-valuemax", String(num));
    this.canvas.setAttribute("aria-valuenow", String((this.here ?? -1) + 1));
    this.canvas.setAttribute("aria-valuetext", this.here === null ? told : said(this.rounds[this.here], this.here));
  }
}

// A decision came at `at_ms`. Of the time that was waited for it, what queue and verifier did not take is the link's, half each way.
function parts(round) {
  const link = linkMs(round);
  const down = round.at_ms - link;
  const verify = down - round.verify_ms;
  const queue = verify - round.queue_ms;
  const up = queue - link;
  const found = [["queue", queue, verify], ["verify", verify, down]];
  if (link) found.push(["up", up, queue], ["down", down, round.at_ms]);
  if (round.num_drafted) found.push(["draft", up - round.draft_ms, up]);
  return found;
}

function linkMs(round) {
  return round.num_drafted ? Math.max(round.wait_ms - round.queue_ms - round.verify_ms, 0) / 2 : 0;
}

function said(round, place) {
  const ms = (value) => `${value.toFixed(1)} ms`;
  const cloud = `queue ${ms(round.queue_ms)}, verifying ${ms(round.verify_ms)}`;
  if (!round.num_drafted) return `round ${place + 1}: nothing sent, ${cloud}`;
  const link = ms(linkMs(round));
  return `round ${place + 1}: ${round.num_drafted} tokens drafted, ${round.num_accepted} stood; drafting ${ms(round.draft_ms)}, up ${link}, ${cloud}, down ${link}`;
}
