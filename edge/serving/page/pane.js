// A text as it comes, each token in the colour of its origin. Knows elements and tokens; knows nothing of requests.

import { withNextFrame } from "./frame.js";

const ORIGINS = { accepted: "accepted", corrected: "corrected", bonus: "bonus", decoded: "decoded by the cloud" };
const AT_END_PX = 40; // so near its end a text is followed

export class Pane {
  // `onDetail` gets a token that is pointed at or moved to, null when none is any more; `origins` are those that its legend shows from the start.
  constructor(section, origins, onDetail) {
    this.text = section.querySelector(".text");
    this.pace = section.querySelector(".pace");
    this.legend = section.querySelector(".legend");
    this.origins = origins;
    this.onDetail = onDetail;
    this.later = withNextFrame(() => this.draw());
    this.text.addEventListener("pointerover", (event) => this.tell(event.target.closest("[role=option]")));
    this.text.addEventListener("click", (event) => this.markAt(event.target.closest("[role=option]")));
    this.text.addEventListener("pointerleave", () => this.onDetail(this.tokens[this.here] ?? null));
    this.text.addEventListener("keydown", (event) => this.move(event));
    this.text.addEventListener("blur", () => this.mark(null));
    this.clear("");
  }

  clear(prompt) {
    this.tokens = [];
    this.spans = [];
    this.waiting = [];
    this.ofRound = [];
    this.line = newLine();
    this.counts = Object.fromEntries(this.origins.map((origin) => [origin, 0]));
    this.here = null;
    this.startedAt = performance.now();
    this.firstMs = null;
    this.lastMs = 0;
    this.text.replaceChildren();
    this.text.removeAttribute("aria-activedescendant");
    this.showCounts();
    if (prompt) {
      const said = document.createElement("span");
      said.className = "said";
      said.textContent = prompt;
      this.line.append(said);
      this.text.append(this.line);
    }
  }

  // `round` is the place on the timeline that they came in, null where there is none.
  add(tokens, round = null) {
    const now = performance.now() - this.startedAt;
    this.firstMs ??= now;
    this.lastMs = now;
    for (const token of tokens) this.waiting.push({ ...token, round });
    this.later();
  }

  set isWriting(isWriting) {
    this.text.classList.toggle("writing", isWriting);
    this.text.setAttribute("aria-busy", String(isWriting));
  }

  draw() {
    const isAtEnd = this.here === null && this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < AT_END_PX;
    for (const token of this.waiting) {
      const span = document.createElement("span");
      span.className = token.text.startsWith("\n") ? `${token.origin} newline` : token.origin;
      span.setAttribute("role", "option");
      span.id = `${this.text.parentElement.id}-${this.tokens.length}`;
      span.dataset.place = this.tokens.length;
      span.textContent = token.text;
      this.tokens.push(token);
      this.spans.push(span);
      this.counts[token.origin] = (this.counts[token.origin] ?? 0) + 1;
      this.line.append(span);
      if (!this.line.isConnected) this.text.append(this.line);
      if (token.text.endsWith("\n")) this.line = newLine();
    }
    this.waiting = [];
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
    this.showCounts();
  }

  get tokensPerS() {
    const num = this.tokens.length + this.waiting.length;
    return this.lastMs > 0 ? (1000 * num) / this.lastMs : 0;
  }

  showCounts() {
    if (this.firstMs === null) this.pace.replaceChildren();
    else {
      const pace = document.createElement("b");
      pace.textContent = this.tokensPerS.toFixed(0);
      this.pace.replaceChildren(pace, ` tokens/s, first after ${this.firstMs.toFixed(0)} ms`);
    }
    this.legend.replaceChildren(
      ...Object.entries(this.counts).map(([origin, count]) => {
        const item = document.createElement("li");
        const mark = document.createElement("i");
        mark.className = origin;
        item.append(mark, this.firstMs === null ? ORIGINS[origin] : `${count} ${ORIGINS[origin] ?? origin}`);
        return item;
      }),
    );
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    const line = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const last = this.tokens.length - 1;
    if ((step ?? line) === undefined || last < 0) return;
    event.preventDefault();
    const from = this.here ?? ((step ?? line) > 0 ? -1 : last + 1);
    this.mark(line && this.here !== null ? this.onLine(line) : Math.min(Math.max(from + (step ?? line), 0), last));
  }

  // The token nearest under the marked one on the next line, or over it on the one before.
  onLine(step) {
    const middle = (span) => span.offsetLeft + span.offsetWidth / 2;
    const from = this.spans[this.here];
    let best = this.here;
    let top = null;
    for (let place = this.here + step; this.spans[place]; place += step) {
      const span = this.spans[place];
      if (span.offsetTop === from.offsetTop) continue;
      top ??= span.offsetTop;
      if (span.offsetTop !== top) break;
      if (best === this.here || Math.abs(middle(span) - middle(from)) < Math.abs(middle(this.spans[best]) - middle(from))) best = place;
    }
    return best;
  }

  mark(place) {
    this.spans[this.here]?.classList.remove("here");
    this.here = place;
    if (place === null) {
      this.text.removeAttribute("aria-activedescendant");
      this.onDetail(null);
      return;
    }
    const span = this.spans[place];
    span.classList.add("here");
    span.scrollIntoView({ block: "nearest" });
    this.text.setAttribute("aria-activedescendant", span.id);
    this.tell(span);
  }

  markAt(span) {
    if (span) this.mark(Number(span.dataset.place));
  }

  // Which tokens came in a round; null for none.
  markRound(round) {
    for (const span of this.ofRound) span.classList.remove("of-round");
    this.ofRound = round === null ? [] : this.spans.filter((_, place) => this.tokens[place].round === round);
    for (const span of this.ofRound) span.classList.add("of-round");
    const { offsetTop } = this.ofRound[0] ?? {};
    if (offsetTop < this.text.scrollTop || offsetTop > this.text.scrollTop + this.text.clientHeight - AT_END_PX) {
      this.text.scrollTop = offsetTop - this.text.clientHeight / 2;
    }
  }

  tell(span) {
    if (span) this.onDetail(this.tokens[Number(span.dataset.place)]);
  }
}

// A line is a block of its own, so that what is added to the last has only that one laid out again, however long the text.
function newLine() {
  const line = document.createElement("div");
  line.setAttribute("role", "presentation");
  return line;
}
