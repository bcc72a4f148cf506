// One request, streamed: what each chunk tells of its tokens and round. Knows HTTP and the server's fields; knows nothing of the page.

// What a person can be told in one line.
export class Failure extends Error {}

export async function health() {
  return (await asked("/health")).json();
}

// Yields `{tokens, round}` as rounds come, and at last `{final}`: the record of the whole. Throws `Failure`, or AbortError once `signal` is given.
export async function* streamed(body, signal) {
  const headers = { "Content-Type": "application/json" };
  const answer = await asked("/v1/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  for await (const event of events(answer.body)) {
    if (event.error) throw new Failure(event.error.message);
    const told = event.cactus;
    if (told?.tokens) yield { tokens: told.tokens, round: told.round };
    if (told?.choices) yield { final: told.choices[0] };
  }
}

async function asked(path, request) {
  const answer = await fetch(path, request).catch(lost);
  if (answer.ok) return answer;
  const told = await answer.json().catch(() => ({}));
  throw new Failure(told.error?.message ?? `${answer.status} ${answer.statusText}`);
}

function lost(error) {
  if (error.name === "AbortError") throw error;
  throw new Failure("The server does not answer: see that cactus serve still runs.");
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch(lost);
    if (done) throw new Failure("The answer broke off before its end: see the server's log.");
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data === "[DONE]") return;
      yield JSON.parse(data);
    }
  }
}
