// The calls this page has made, as a developer wants to see them. Newest first; repeated reads share a row.

import { byId, h } from "../lib/dom.js";
import { calls } from "../lib/http.js";

const MOST_ROWS = 60;

let latest = null;

export function installCallsPanel() {
  calls.addEventListener("call", (event) => record(event.detail));
  byId("calls-clear").addEventListener("click", clear);
}

function record(call) {
  if (!call.quiet) byId("calls-last").replaceChildren(...brief(call));
  if (call.quiet && latest?.call.quiet && latest.call.path === call.path) {
    latest.count += 1;
    latest.replace(call);
    return;
  }
  latest = rowOf(call);
  byId("calls-list").prepend(latest.element);
  while (byId("calls-list").children.length > MOST_ROWS) byId("calls-list").lastElementChild.remove();
}

function clear() {
  latest = null;
  byId("calls-list").replaceChildren();
  byId("calls-last").replaceChildren();
}

function rowOf(call) {
  const element = h("li", { class: call.quiet && "quiet" });
  const row = { element, call, count: 1, replace: (next) => { row.call = next; draw(); } };
  const draw = () => element.replaceChildren(h("details", {
    open: element.firstElementChild?.open, ontoggle: (event) => unfold(event.target, row.call),
  }, h("summary", {}, brief(row.call), row.count > 1 && h("span", { class: "count" }, `×${row.count}`))));
  draw();
  return row;
}

function brief(call) {
  const kind = call.status === 0 ? "lost" : `s${String(call.status)[0]}`;
  return [
    h("span", { class: "method" }, call.method),
    h("span", { class: "path" }, call.path),
    call.replayed && h("span", { class: "count" }, "replayed"),
    h("span", { class: ["status", kind] }, call.status || "no answer"),
    h("span", { class: "ms" }, `${call.ms} ms`),
  ].filter(Boolean);
}

/** The bodies are written out only when somebody looks. */
function unfold(details, call) {
  if (!details.open || details.children.length > 1) return;
  const headers = Object.entries(call.sent).map(([name, value]) => `${name}: ${value}`).join("\n");
  const sent = call.body === undefined ? headers : `${headers}\n\n${pretty(call.body)}`;
  details.append(h("div", { class: "bodies" },
    h("div", {}, h("h3", {}, "Request"), h("pre", { tabindex: "0" }, sent)),
    h("div", {}, h("h3", {}, "Answer"), h("pre", { tabindex: "0" }, pretty(call.answer)))));
}

const pretty = (value) => JSON.stringify(value, null, 2);
