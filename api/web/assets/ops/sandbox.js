// The sandbox gateway: how it behaves, and what its book says.

import { announce, busy, byId, h, render, whenNew } from "../lib/dom.js";
import { newKey, reasonOf } from "../lib/http.js";
import { money } from "../lib/money.js";
import { ops } from "./session.js";

const PAGE = 100;
const TAIL = 60;
const PAGES_AT_ONCE = 40;

let entries = [];
let before = 0;
let cursor = "";

export function installSandbox() {
  const form = byId("sandbox-form");
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const latency = form.elements.latency.value.trim();
    const wanted = { mode: form.elements.mode.value || undefined, latency_ms: latency || undefined };
    busy(form.querySelector("button"), () => apply(wanted));
  });
}

/** A PUT that names nothing changes nothing and tells how things stand. */
export async function showSandbox() {
  const answer = await ops("PUT", "/v1/ops/sandbox", { body: {}, quiet: true });
  const absent = answer.status === 404;
  byId("sandbox-tile").hidden = absent;
  byId("ledger-tile").hidden = absent;
  if (answer.ok) show(answer.body);
  return answer.ok;
}

async function apply(wanted) {
  const answer = await ops("PUT", "/v1/ops/sandbox", { body: wanted });
  byId("latency-error").textContent = answer.ok ? "" : answer.body?.errors?.[0]?.message ?? reasonOf(answer);
  if (!answer.ok) return;
  show(answer.body);
  announce(`The gateway is ${answer.body.mode}, latency ${answer.body.latency_ms} milliseconds.`);
}

function show(state) {
  const form = byId("sandbox-form");
  form.elements.mode.value = state.mode;
  form.elements.latency.value = state.latency_ms;
  render(byId("sandbox-state"), h("span", { class: `badge ${state.mode}` }, `${state.mode} · ${state.latency_ms} ms`));
}

/** Reads on from where it stopped; of a long book a part at a time. */
export async function refreshLedger() {
  for (let page = 0; page < PAGES_AT_ONCE; page += 1) {
    const start = cursor ? `&cursor=${encodeURIComponent(cursor)}` : "";
    const answer = await ops("GET", `/v1/ops/sandbox/ledger?limit=${PAGE}${start}`, { quiet: true });
    if (!answer.ok) return;
    // The last page is read again each time: it grows, and a resolution changes an entry's status.
    entries = [...entries.slice(0, before), ...answer.body.data].slice(-PAGE - TAIL);
    if (answer.body.next_cursor === null) break;
    cursor = answer.body.next_cursor;
    before = entries.length;
  }
  before = Math.min(before, entries.length);
  draw(entries.slice(-TAIL).reverse());
}

const draw = whenNew((shown) => {
  render(byId("ledger-count"), `the latest ${shown.length}`);
  render(byId("ledger"), shown.length === 0
    ? h("tr", {}, h("td", { colspan: 8, class: "muted" }, "Nothing has been paid yet."))
    : shown.map(rowOf));
});

function rowOf(entry) {
  return h("tr", {},
    h("td", {}, h("time", { datetime: entry.created_at }, new Date(entry.created_at).toLocaleTimeString())),
    h("td", {}, entry.type),
    h("td", {}, h("span", { class: `badge ${entry.status}` }, entry.status.replace("_", " "))),
    h("td", { class: "amount" }, money(entry.amount, entry.currency)),
    [entry.payment_id, entry.checkout_id, entry.token].map((id) => h("td", {}, h("code", {}, id))),
    h("td", {}, entry.status === "requires_action" && h("span", { class: "row-actions" },
      resolveButton(entry, "succeed", "Approve"), resolveButton(entry, "fail", "Refuse"))));
}

function resolveButton(entry, outcome, label) {
  const button = h("button", {
    type: "button", class: "button small ghost",
    "data-focus": entry.id + outcome, "aria-label": `${label} ${entry.payment_id}`,
  }, label);
  const path = `/v1/ops/sandbox/payments/${entry.payment_id}/resolve`;
  button.addEventListener("click", () => busy(button, async () => {
    const answer = await ops("POST", path, { body: { outcome }, key: newKey() });
    announce(answer.ok ? `${label}d.` : reasonOf(answer));
    await refreshLedger();
  }));
  return button;
}
