// Server-sent events with request headers, which the browser's own EventSource cannot send.

import { pause } from "./dom.js";
import { call } from "./http.js";

const RECONNECT_MS = 1500;
const ENDED = new Set(["completed", "canceled"]);

/**
 * Calls `onChange(checkout)` with the checkout as it is and at each change, until it has ended or `signal` is
 * aborted. A lost stream is opened again; where streams do not get through, it asks instead.
 */
export async function watchCheckout(id, token, onChange, signal) {
  let status = "";
  const told = (checkout) => {
    status = checkout.status;
    if (!signal.aborted) onChange(checkout);
  };
  while (!signal.aborted && !ENDED.has(status)) {
    if (!(await streamed(`/v1/checkouts/${id}/events`, token, told, signal)) && !signal.aborted) {
      const answer = await call("GET", `/v1/checkouts/${id}`, { token, signal, quiet: true });
      if (answer.ok) told(answer.body);
      else if (answer.status === 404) return;
    }
    if (!ENDED.has(status)) await pause(RECONNECT_MS);
  }
}

async function streamed(path, token, told, signal) {
  try {
    const headers = { Accept: "text/event-stream", "Cart-Token": token };
    const response = await fetch(path, { headers, signal, cache: "no-store" });
    if (!response.ok || !response.body) return false;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return true;
      const events = (text + value).split("\n\n");
      text = events.pop();
      events.map(dataOf).filter(Boolean).forEach((data) => told(JSON.parse(data)));
    }
  } catch {
    return false;
  }
}

function dataOf(event) {
  const lines = event.split("\n").filter((line) => line.startsWith("data:"));
  return lines.map((line) => line.slice(5).trimStart()).join("\n");
}
