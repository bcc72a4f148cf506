// A text as it comes, each token in the colour of its origin. Knows elements and tokens; knows nothing of requests.

const ORIGINS = { accepted: "accepted", corrected: "corrected", bonus: "bonus", decoded: "decoded by the cloud" };

export class Pane {
  constructor(section, onDetail) {
    this.text = section.querySelector(".text");
    this.pace = section.querySelector(".pace");
    this.legend = section.querySelector(".legend");
    this.onDetail = onDetail;
    this.text.addEventListener("pointerover", (event) => this.tell(event.target.closest("[role=option]")));
    this.text.addEventListener("keydown", (event) => this.move(event));
    this.text.addEventListener("blur", () => this.mark(null));
    this.clear("");
  }

  clear(prompt) {
    this.tokens = [];
    this.waiting = [];
    this.counts = { accepted: 0, corrected: 0, bonus: 0, decoded: 0 };
    this.here = null;
    this.startedAt = performance.now();
    this.firstMs = null;
    this.lastMs = 0;
    this.text.replaceChildren();
    this.legend.replaceChildren();
    this.pace.replaceChildren();
    if (prompt) {
      const said = document.createElement("span");
      said.className = "said";
      said.textContent = prompt;
      this.text.append(said);
    }
  }

  // Drawn with the next frame, however many come before it.
  add(tokens) {
    const now = performance.now() - this.startedAt;
    this.firstMs ??= now;
    this.lastMs = now;
    if (!this.waiting.length) requestAnimationFrame(() => this.draw());
    this.waiting.push(...tokens);
  }

  draw() {
    const isAtEnd = this.text.scrollHeight - this.text.scrollTop - this.text.clientHeight < 40;
    const drawn = document.createDocumentFragment();
    for (const token of this.waiting) {
      const span = document.createElement("span");
      span.className = token.origin;
      span.setAttribute("role", "option");
      span.id = `${this.text.parentElement.id}-${this.tokens.length}`;
      span.dataset.place = this.tokens.length;
      span.textContent = token.text;
      this.tokens.push(token);
      this.counts[token.origin] = (this.counts[token.origin] ?? 0) + 1;
      drawn.append(span);
    }
    this.waiting = [];
    this.text.append(drawn);
    if (isAtEnd) this.text.scrollTop = this.text.scrollHeight;
    this.showCounts();
  }

  get tokensPerS() {
    const num = this.tokens.length + this.waiting.length;
    return this.lastMs > 0 ? (1000 * num) / this.lastMs : 0;
  }

  showCounts() {
    const pace = document.createElement("b");
    pace.textContent = this.tokensPerS.toFixed(0);
    this.pace.replaceChildren(pace, ` tokens/s, first after ${this.firstMs.toFixed(0)} ms`);
    this.legend.replaceChildren(
      ...Object.entries(this.counts).filter(([, count]) => count).map(([origin, count]) => {
        const item = document.createElement("li");
        const colour = document.createElement("i");
        colour.className = origin;
        item.append(colour, `${count} ${ORIGINS[origin] ?? origin}`);
        return item;
      }),
    );
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 10, ArrowUp: -10, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this.tokens.length) return;
    event.preventDefault();
    const from = this.here === null ? (step > 0 ? -1 : this.tokens.length) : this.here;
    this.mark(Math.min(Math.max(from + step, 0), this.tokens.length - 1));
  }

  mark(place) {
    this.text.querySelector(".here")?.classList.remove("here");
    this.here = place;
    if (place === null) {
      this.text.removeAttribute("aria-activedescendant");
      return;
    }
    const span = this.text.querySelector(`[data-place="${place}"]`);
    span.classList.add("here");
    span.scrollIntoView({ block: "nearest" });
    this.text.setAttribute("aria-activedescendant", span.id);
    this.tell(span);
  }

  tell(span) {
    if (span) this.onDetail(this.tokens[Number(span.dataset.place)]);
  }
}
