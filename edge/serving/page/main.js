// The page: what is asked, of whom, and who shows what comes. Everything else stands in its own module.

import { Positions, showPlan, showSpent, showSums } from "./figures.js";
import { Pane } from "./pane.js";
import { health, streamed } from "./stream.js";
import { Timeline } from "./timeline.js";

const HEALTH_EVERY_MS = 5000;
const field = (name) => document.querySelector(`#${name}`);
const drafted = new Pane(field("drafted"), showDetail);
const alone = new Pane(field("alone"), showDetail);
const timeline = new Timeline(field("timeline"));
const positions = new Positions(field("positions"));
let model = "";
let running = null; // what stops it

field("asked").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
field("stop").addEventListener("click", stop);
addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) field("asked").requestSubmit();
  if (event.key === "Escape") stop();
});
showSums(field("sums"), {});
look();
setInterval(look, HEALTH_EVERY_MS);

async function look() {
  const shown = field("health");
  try {
    const told = await health();
    model = told.model;
    shown.className = "well";
    shown.textContent = `${model}, ${told.requests} of ${told.most_requests} requests`;
  } catch (error) {
    shown.className = "ill";
    shown.textContent = `the cloud cannot be reached: ${error.message}`;
  }
}

function stop() {
  running?.abort();
}

async function run() {
  if (running) return;
  if (!model) await look();
  const stopping = (running = new AbortController());
  field("run").disabled = true;
  field("stop").disabled = false;
  field("said").textContent = "";
  drafted.clear(field("prompt").value);
  alone.clear("");
  timeline.clear();
  positions.clear();
  field("plan").replaceChildren();
  const sums = { tokens: 0, rounds: 0, drafted: 0, accepted: 0, divergence: 0 };
  try {
    const first = write(drafted, body(speculation()), stopping.signal, sums);
    const beside = field("beside").value;
    field("alone").hidden = beside === "off";
    if (beside === "after") await first;
    const second = beside === "off" ? null : write(alone, body({ family: "none", trace: true }), stopping.signal, null);
    await Promise.all([first, second]);
  } catch (error) {
    if (error.name !== "AbortError") {
      stopping.abort();
      field("said").textContent = error.message;
    }
  } finally {
    running = null;
    field("run").disabled = false;
    field("stop").disabled = true;
    if (drafted.tokensPerS && alone.tokensPerS) showSums(field("sums"), { ...sums, speedup: drafted.tokensPerS / alone.tokensPerS });
  }
}

async function write(pane, asked, signal, sums) {
  pane.clear(asked.prompt);
  for await (const told of streamed(asked, signal)) {
    if (told.tokens) {
      pane.add(told.tokens);
      if (sums) count(sums, told);
    } else if (sums) {
      sums.bytes = told.final.bytes;
      showSums(field("sums"), sums);
      showPlan(field("plan"), told.final.plan);
    }
  }
}

function count(sums, { tokens, round }) {
  sums.tokens += tokens.length;
  sums.rounds += 1;
  sums.drafted += round.num_drafted;
  sums.accepted += round.num_accepted;
  for (const token of tokens) sums.divergence += token.divergence;
  timeline.add(round);
  positions.add(round);
  showSums(field("sums"), sums);
  showSpent(sums.divergence, Number(field("budget").value));
}

function body(how) {
  return {
    model,
    prompt: field("prompt").value,
    max_tokens: Number(field("max_tokens").value),
    temperature: Number(field("temperature").value),
    seed: Number(field("seed").value),
    stream: true,
    speculation: how,
  };
}

function speculation() {
  const delta = Number(field("delta").value);
  const budget = Number(field("budget").value);
  const asked = { objective: field("objective").value, trace: true };
  if (delta > 0) asked.delta = delta;
  if (delta > 0 && budget > 0) asked.budget = budget;
  asked.family = delta > 0 ? "rejection" : field("family").value; // a relaxation needs laws
  return asked;
}

function showDetail(token) {
  const name = document.createElement("b");
  name.textContent = JSON.stringify(token.text);
  const logprob = token.logprob === null ? "–" : `${token.logprob.toFixed(3)} (${(100 * Math.exp(token.logprob)).toFixed(1)}%)`;
  const spent = token.divergence ? `, ${token.divergence.toFixed(4)} nats spent` : "";
  field("detail").replaceChildren(name, `  id ${token.id}, ${token.origin}, logprob ${logprob}${spent}`);
}
