// Rounds in time: what each did when. Knows rounds and a canvas; knows nothing of texts.

const LANES = ["draft", "up", "queue", "verify", "down"];
const SAID = { draft: "drafting", up: "up", queue: "queue", verify: "verifying", down: "down" };
const LABEL_PX = 70;

export class Timeline {
  constructor(canvas) {
    this.canvas = canvas;
    this.rounds = [];
    this.isDue = false;
    new ResizeObserver(() => this.later()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.later());
  }

  clear() {
    this.rounds = [];
    this.later();
  }

  add(round) {
    this.rounds.push(round);
    this.later();
  }

  later() {
    if (this.isDue) return;
    this.isDue = true;
    requestAnimationFrame(() => {
      this.isDue = false;
      this.draw();
    });
  }

  draw() {
    const { width, height } = this.canvas.getBoundingClientRect();
    const scale = devicePixelRatio;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    const pen = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    pen.scale(scale, scale);
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "middle";
    const axis = 18;
    const lane = (height - axis) / LANES.length;
    const lasts = Math.max(this.rounds.at(-1)?.at_ms ?? 0, 1000);
    const x = (ms) => LABEL_PX + (Math.max(ms, 0) / lasts) * (width - LABEL_PX);
    LANES.forEach((name, place) => {
      pen.fillStyle = style.getPropertyValue("--quiet");
      pen.fillText(SAID[name], 0, lane * (place + 0.5));
      pen.fillStyle = style.getPropertyValue("--line");
      pen.fillRect(LABEL_PX, lane * (place + 1) - 1, width - LABEL_PX, 1);
    });
    for (const round of this.rounds) {
      for (const [name, start, end] of parts(round)) {
        const place = LANES.indexOf(name);
        pen.fillStyle = style.getPropertyValue(`--${name}`);
        pen.fillRect(x(start), lane * place + 4, Math.max(x(end) - x(start), 1), lane - 9);
      }
    }
    pen.fillStyle = style.getPropertyValue("--quiet");
    for (let tick = 0; tick <= 4; tick += 1) {
      pen.textAlign = tick === 4 ? "right" : "left";
      pen.fillText(`${((lasts * tick) / 4000).toFixed(2)} s`, x((lasts * tick) / 4), height - axis / 2);
    }
    pen.textAlign = "left";
    const num = this.rounds.length;
    this.canvas.setAttribute("aria-label", num ? `${num} rounds in ${(lasts / 1000).toFixed(2)} seconds` : "no rounds yet");
  }
}

// A decision came at `at_ms`. Of the time that was waited for it, what queue and verifier did not take is the link's, half each way.
function parts(round) {
  const link = round.num_drafted ? Math.max(round.wait_ms - round.queue_ms - round.verify_ms, 0) / 2 : 0;
  const down = round.at_ms - link;
  const verify = down - round.verify_ms;
  const queue = verify - round.queue_ms;
  const up = queue - link;
  const found = [["queue", queue, verify], ["verify", verify, down]];
  if (link) found.push(["up", up, queue], ["down", down, round.at_ms]);
  if (round.num_drafted) found.push(["draft", up - round.draft_ms, up]);
  return found;
}
