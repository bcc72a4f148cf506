// The page: what is asked, of whom, and who shows what comes. Everything else stands in its own module.

import { Positions, Sums, showPlan, showSpent, showSums } from "./figures.js";
import { withNextFrame } from "./frame.js";
import { Pane } from "./pane.js";
import { Failure, health, streamed } from "./stream.js";
import { Timeline } from "./timeline.js";

const HEALTH_EVERY_MS = 5000;
const field = (name) => document.querySelector(`#${name}`);
const timeline = new Timeline(field("timeline"), showRound);
const positions = new Positions(field("positions"));
const drafted = new Pane(field("drafted"), ["accepted", "corrected", "bonus", "decoded"], showToken);
const alone = new Pane(field("alone"), ["decoded"], showToken);
const drawSums = withNextFrame(() => {
  showSums(field("sums"), sums.drafted, sums.alone, speedup);
  showSpent(sums.drafted.divergence, budget);
});
let sums = { drafted: new Sums(), alone: new Sums() };
let speedup = null;
let budget = 0;
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
drawSums();
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
    shown.textContent = error.message;
  }
}

function stop() {
  running?.abort();
}

async function run() {
  if (running) return;
  const stopping = (running = new AbortController());
  begin();
  try {
    if (!model) await look();
    if (!model) throw new Failure("The server has not answered yet: see that cactus serve runs and that its cloud can be reached.");
    const beside = field("beside").value;
    const first = write(drafted, body(speculation()), stopping.signal, sums.drafted);
    if (beside === "after") await first;
    const second = beside === "off" ? null : write(alone, body({ family: "none", trace: true }), stopping.signal, sums.alone);
    await Promise.all([first, second]);
    if (second) speedup = drafted.tokensPerS / alone.tokensPerS;
  } catch (error) {
    const isStopped = stopping.signal.aborted;
    stopping.abort();
    say(isStopped ? "Stopped." : error.message, !isStopped);
    if (!isStopped && !(error instanceof Failure)) throw error; // the page's own fault, for the console
  } finally {
    running = null;
    field("run").disabled = false;
    field("stop").disabled = true;
    drawSums();
  }
}

function begin() {
  field("run").disabled = true;
  field("stop").disabled = false;
  field("alone").hidden = field("beside").value === "off";
  say("", false);
  showDetail(null);
  sums = { drafted: new Sums(), alone: new Sums() };
  speedup = null;
  budget = Number(field("budget").value);
  for (const pane of [drafted, alone]) pane.clear(field("prompt").value);
  timeline.clear();
  positions.clear();
  field("plan").replaceChildren();
  drawSums();
  field("drafted").scrollIntoView({ block: "nearest" }); // on a phone it stands below what is asked
}

function say(text, isWrong) {
  field("said").textContent = text;
  field("said").classList.toggle("wrong", isWrong);
  if (isWrong) field("said").scrollIntoView({ block: "nearest" });
}

async function write(pane, asked, signal, into) {
  pane.clear(asked.prompt);
  pane.isWriting = true;
  try {
    for await (const told of streamed(asked, signal)) {
      if (told.tokens) {
        into.add(told.tokens, told.round);
        pane.add(told.tokens, pane === drafted ? timeline.add(told.round) : null);
        if (pane === drafted) positions.add(told.round);
      } else {
        into.end(told.final);
        if (pane === drafted) showPlan(field("plan"), told.final.plan, told.final.drafter_error);
      }
      drawSums();
    }
  } finally {
    pane.isWriting = false;
  }
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

function showToken(token) {
  timeline.mark(token?.round ?? null);
  if (!token) return showDetail(null);
  const logprob = token.logprob === null ? "–" : `${token.logprob.toFixed(3)} (${(100 * Math.exp(token.logprob)).toFixed(1)}%)`;
  const spent = token.divergence ? `, ${token.divergence.toFixed(4)} nats spent` : "";
  const round = token.round === null ? "" : `, round ${token.round + 1}`;
  showDetail(JSON.stringify(token.text), `${token.origin}, logprob ${logprob}${spent}, id ${token.id}${round}`);
}

function showRound(round, said) {
  drafted.markRound(round);
  if (round === null) showDetail(null);
  else showDetail(said.split(":")[0], said.slice(said.indexOf(":") + 1));
}

function showDetail(name, told) {
  if (name === null) return field("detail").replaceChildren();
  const shown = document.createElement("b");
  shown.textContent = name;
  field("detail").replaceChildren(shown, ` ${told}`);
}
