// What a text cost and what drafts brought, in figures. Knows rounds and the server's record; knows nothing of requests.

import { withNextFrame } from "./frame.js";

const MOST_POSITIONS = 16;

export class Positions {
  constructor(element) {
    this.element = element;
    this.later = withNextFrame(() => this.draw());
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
    this.later();
  }

  draw() {
    const shown = this.drafted.slice(0, MOST_POSITIONS);
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

// What one text came to, as its rounds come.
export class Sums {
  constructor() {
    Object.assign(this, { tokens: 0, rounds: 0, drafted: 0, accepted: 0, divergence: 0, bytes: null, resumes: 0 });
  }

  add(tokens, round) {
    this.tokens += tokens.length;
    this.rounds += 1;
    this.drafted += round.num_drafted;
    this.accepted += round.num_accepted;
    for (const token of tokens) this.divergence += token.divergence;
  }

  // The server's own record of the whole.
  end(record) {
    this.bytes = record.bytes;
    this.resumes = record.num_resumes;
  }
}

const ROWS = [
  ["Tokens a decision", (sums) => sums.rounds && (sums.tokens / sums.rounds).toFixed(2)],
  ["Decisions", (sums) => sums.rounds],
  ["Drafted tokens", (sums) => sums.drafted],
  ["of them stood", (sums) => sums.drafted && sums.accepted],
  ["Bytes up", (sums) => sums.bytes?.up.toLocaleString("en")],
  ["Bytes down", (sums) => sums.bytes?.down.toLocaleString("en")],
  ["Nats of divergence", (sums) => sums.rounds && (sums.divergence ? sums.divergence.toFixed(3) : "0, exact")],
  ["Lines lost", (sums) => sums.resumes],
];

// `alone` is null where the cloud was not asked alone; `speedup` is null until both texts have ended.
export function showSums(element, drafted, alone, speedup) {
  const table = document.createElement("table");
  table.append(row("th", "", "drafts", "alone"));
  for (const [name, of] of ROWS) {
    if (name !== "Lines lost" || of(drafted) || of(alone)) table.append(row("td", name, of(drafted) || "–", of(alone) || "–"));
  }
  const told = speedup ? [made("p", `${speedup.toFixed(2)} times as fast as the cloud alone.`)] : [];
  told[0]?.classList.add("told");
  element.replaceChildren(...told, table);
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

const CHOSEN = {
  off: "drafts promise too little here, so the cloud decodes alone.",
  wait: "each step waits for a tree, its drafting and a round trip.",
  stream: "the cloud goes on meanwhile, and trees come late.",
  rounds: "each round drafts paths, sends them with their laws and waits.",
};

// `plan` is what a tuner of trees or of paths tells, or nothing where nobody drafts; `failure` is what stopped the drafter, if anything did.
export function showPlan(element, plan, failure) {
  const shown = failure ? [made("p", `Drafting failed, and the cloud went on alone: ${failure}`)] : [];
  element.replaceChildren(...shown, ...explained(plan));
}

function explained(plan) {
  if (!plan?.mode) return [made("p", "Nobody drafts on this server, so there was nothing to choose.")];
  const chosen = made("p", "");
  chosen.className = "told";
  chosen.append(made("b", plan.mode), `: ${CHOSEN[plan.mode] ?? ""}`);
  const ways = Array.isArray(plan.expected) ? ofPaths(plan) : ofTrees(plan);
  if (!ways.length) return [chosen, made("p", "Too little is measured yet to compare ways to draft; the next text knows more.")];
  const table = document.createElement("table");
  table.append(row("th", "way", "tokens a step", "tokens/s"));
  for (const { name, isChosen, tokens, pace } of ways) {
    const line = row("td", name, tokens.toFixed(2), pace.toFixed(0));
    if (isChosen) line.className = "chosen";
    table.append(line);
  }
  return [chosen, table, made("p", reason(plan, ways)), made("p", measured(plan))];
}

function ofTrees(plan) {
  return Object.entries(plan.expected ?? {}).map(([mode, { num_nodes, tokens_per_step, tokens_per_s }]) => ({
    name: num_nodes ? `${mode}, ${num_nodes} nodes` : mode,
    isChosen: mode === plan.mode,
    tokens: tokens_per_step,
    pace: tokens_per_s,
  }));
}

function ofPaths(plan) {
  return plan.expected.map(({ num_rows, length, tokens_per_round, tokens_per_s }) => ({
    name: num_rows ? `${num_rows} × ${length} tokens` : "off",
    isChosen: num_rows === plan.num_rows && length === plan.length,
    tokens: tokens_per_round,
    pace: tokens_per_s,
  }));
}

function reason(plan, ways) {
  const chosen = ways.find((way) => way.isChosen);
  if (!chosen) return "The one in use is not among the likeliest here: it is still trying what it knows too little of.";
  if (plan.objective && plan.objective !== "latency") return `It tunes for ${plan.objective}, not for pace alone.`;
  if (ways.every((way) => way.pace <= chosen.pace)) return "It is expected to write the most tokens a second.";
  return "Another is expected to be faster; it changes when that is by a clear margin.";
}

function measured(plan) {
  const drafting = plan.draft_ms?.[plan.num_nodes] ?? plan.draft_ms?.[16];
  const parts = [["a round trip", plan.round_trip_ms], ["a step of the cloud", plan.step_ms?.[0]], ["drafting", drafting]];
  const told = parts.filter(([, ms]) => ms != null).map(([name, ms]) => `${name} ${ms.toFixed(1)} ms`);
  return told.length ? `Measured: ${told.join(", ")}.` : "Nothing is measured yet.";
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
