// One request, streamed: what each chunk tells of its tokens and round. Knows HTTP and the server's fields; knows nothing of the page.

export async function health() {
  const answer = await fetch("/health");
  const told = await answer.json();
  if (!answer.ok) throw new Error(told.error?.message ?? answer.statusText);
  return told;
}

// Yields `{tokens, round}` as rounds come, and at last `{final}`: the record of the whole. Throws an Error with one line where it cannot be.
export async function* streamed(body, signal) {
  const answer = await fetch("/v1/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    throw new Error(told.error?.message ?? `${answer.status} ${answer.statusText}`);
  }
  for await (const event of events(answer.body)) {
    if (event.error) throw new Error(event.error.message);
    const told = event.cactus;
    if (told?.tokens) yield { tokens: told.tokens, round: told.round };
    if (told?.choices) yield { final: told.choices[0] };
  }
}

async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const data = part.replace(/^data: /, "");
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
