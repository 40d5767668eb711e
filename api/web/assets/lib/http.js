// The one place that speaks to the API. A refusal is a value; every call is told to the listeners of `calls`.

import { pause } from "./dom.js";

export const calls = new EventTarget();

const ASK_AGAIN = new Set([0, 502, 503, 504, 429]);
const ATTEMPTS = 5;
const SECRETS = new Set(["authorization", "cart-token"]);

let clockOffsetMs = 0;

/** Milliseconds since 1970 by the server's clock, to about a second. */
export const serverNow = () => Date.now() + clockOffsetMs;

/** A new idempotency key: one a decision of the buyer, the same for each attempt at carrying it out. */
export const newKey = () => crypto.randomUUID?.() ?? Array.from(
  crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0"),
).join("");

/**
 * One request with its answer: `{ok, status, body, headers}`; status 0 when nothing came back. `body` of an
 * error is a problem document. What may be repeated without harm is: reads, and writes with a `key`.
 */
export async function call(method, path, options = {}) {
  const repeatable = method === "GET" || Boolean(options.key) || options.repeatable;
  let answer = await once(method, path, options);
  for (let attempt = 1; attempt < ATTEMPTS && repeatable && mayAskAgain(answer); attempt += 1) {
    const askedFor = Number(answer.headers.get("Retry-After"));
    await pause(askedFor > 0 ? Math.min(askedFor * 1000, 5000) : 150 * 2 ** attempt);
    answer = await once(method, path, options);
  }
  return answer;
}

function mayAskAgain(answer) {
  return ASK_AGAIN.has(answer.status) || answer.body?.code === "request_in_progress";
}

async function once(method, path, { body, key, token, bearer, waitS, signal, quiet }) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (key) headers["Idempotency-Key"] = key;
  if (token) headers["Cart-Token"] = token;
  if (bearer) headers.Authorization = `Bearer ${bearer}`;
  if (waitS) headers.Prefer = `wait=${waitS}`;
  const started = performance.now();
  let answer;
  try {
    const response = await fetch(path, {
      method, headers, signal, cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    rememberClock(response.headers.get("Date"));
    answer = await understood(response);
  } catch (error) {
    answer = { ok: false, status: 0, body: unreachable(error), headers: new Headers() };
  }
  report({ method, path, sent: shown(headers), body, quiet, started, answer });
  return answer;
}

async function understood(response) {
  const text = await response.text();
  let body = null;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    body = { code: "not_json", detail: "The answer was not understood." };
  }
  return { ok: response.ok, status: response.status, body, headers: response.headers };
}

function unreachable(error) {
  const detail = error.name === "AbortError" ? "The request was given up." : "The shop cannot be reached right now.";
  return { code: "unreachable", detail };
}

function rememberClock(date) {
  const serverMs = Date.parse(date ?? "");
  // The header counts whole seconds: half of one is the better guess.
  if (!Number.isNaN(serverMs)) clockOffsetMs = serverMs + 500 - Date.now();
}

function shown(headers) {
  return Object.fromEntries(Object.entries(headers)
    .map(([name, value]) => [name, SECRETS.has(name.toLowerCase()) ? "••••••" : value]));
}

/** Tells the listeners of a call. `quiet` marks what the page does by itself. */
function report({ method, path, sent, body, quiet, started, answer }) {
  const detail = {
    method, path, sent, body, quiet: Boolean(quiet),
    status: answer.status,
    answer: withoutToken(answer.body),
    replayed: answer.headers.get("Idempotent-Replayed") === "true",
    ms: Math.max(1, Math.round(performance.now() - started)),
  };
  calls.dispatchEvent(new CustomEvent("call", { detail }));
}

const withoutToken = (body) => (body?.token ? { ...body, token: "••••••" } : body);

/** The sentence of a failed call for a person. */
export const reasonOf = (answer) => answer.body?.detail || answer.body?.title || `The shop answered ${answer.status}.`;
