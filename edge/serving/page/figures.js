// What a text cost and what drafts brought, in figures. Knows rounds and the server's record; knows nothing of requests.

export class Positions {
  constructor(element) {
    this.element = element;
    this.clear();
  }

  clear() {
    this.drafted = [];
    this.stood = [];
    this.draw();
  }

  add(round) {
    for (let place = 0; place < Math.max(round.length, round.num_accepted); place += 1) {
      this.drafted[place] = (this.drafted[place] ?? 0) + 1;
      this.stood[place] = (this.stood[place] ?? 0) + (place < round.num_accepted ? 1 : 0);
    }
    if (round.length) this.draw();
  }

  draw() {
    const shown = this.drafted.slice(0, 12);
    this.element.replaceChildren(...shown.map((count, place) => {
      const share = this.stood[place] / count;
      const column = document.createElement("div");
      const bar = document.createElement("i");
      bar.style.height = `${Math.round(100 * share)}px`;
      column.append(`${Math.round(100 * share)}`, bar, `${place + 1}`);
      return column;
    }));
    const told = shown.map((count, place) => `${place + 1}: ${Math.round((100 * this.stood[place]) / count)}%`).join(", ");
    this.element.setAttribute("aria-label", told || "nothing drafted yet");
  }
}

export function showSums(element, sums) {
  const rows = [
    ["Tokens a decision", sums.rounds ? (sums.tokens / sums.rounds).toFixed(2) : ""],
    ["Decisions", sums.rounds || ""],
    ["Drafted tokens", sums.drafted || ""],
    ["of them stood", sums.drafted ? sums.accepted : ""],
    ["Bytes up, down", sums.bytes ? `${sums.bytes.up}, ${sums.bytes.down}` : ""],
    ["Divergence, nats", sums.divergence ? sums.divergence.toFixed(3) : sums.rounds ? "0: exact" : ""],
    ["Times the cloud alone", sums.speedup ? sums.speedup.toFixed(2) : ""],
  ];
  element.replaceChildren(...rows.flatMap(([name, value]) => [made("dt", name), made("dd", value === "" ? "–" : value)]));
}

export function showSpent(divergence, budget) {
  const box = document.querySelector("#spent");
  box.hidden = !(budget > 0);
  if (box.hidden) return;
  const meter = document.querySelector("#meter");
  meter.max = budget;
  meter.value = Math.min(divergence, budget);
  document.querySelector("#spent-text").textContent = `${divergence.toFixed(3)} of ${budget} nats`;
}

export function showPlan(element, plan) {
  if (!plan?.expected) {
    element.replaceChildren(made("p", "This text was decided without a tuner: paths of a fixed shape, or no drafts."));
    if (plan && Object.keys(plan).length) element.append(made("p", JSON.stringify(plan)));
    return;
  }
  const table = document.createElement("table");
  table.append(row("th", "way", "nodes", "tokens a step", "tokens/s"));
  for (const [way, expected] of Object.entries(plan.expected)) {
    const line = row("td", way, expected.num_nodes, expected.tokens_per_step.toFixed(2), expected.tokens_per_s.toFixed(0));
    if (way === plan.mode) line.className = "chosen";
    table.append(line);
  }
  const why = {
    off: "off: drafts promise too little here, the cloud decodes alone",
    wait: "wait: each step waits for a tree, a round trip and its drafting",
    stream: "stream: the cloud goes on in the gaps, trees come late",
  };
  element.replaceChildren(
    made("p", why[plan.mode] ?? plan.mode),
    table,
    made("p", `round trip ${plan.round_trip_ms ?? "–"} ms; a step ${plan.step_ms?.[0] ?? "–"} ms; drafting ${plan.draft_ms?.[16] ?? "–"} ms for 16 nodes`),
  );
}

function row(kind, ...cells) {
  const line = document.createElement("tr");
  line.append(...cells.map((cell) => made(kind, cell)));
  return line;
}

function made(kind, text) {
  const element = document.createElement(kind);
  element.textContent = text;
  return element;
}
