// Is the shop ready, and does everything add up?

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { call, reasonOf } from "../lib/http.js";
import { ops } from "./session.js";

const MOST_VIOLATIONS = 100;

export function installAudit() {
  byId("audit-run").addEventListener("click", () => busy(byId("audit-run"), check));
}

export async function refreshReady() {
  const answer = await call("GET", "/readyz", { quiet: true, repeatable: false });
  const [style, text] = answer.ok ? ["up", "ready"] : ["down", answer.status === 0 ? "unreachable" : "not ready"];
  render(byId("ready"), h("span", { class: `badge ${style}` }, text));
}

export async function check() {
  const answer = await ops("GET", "/v1/ops/audit");
  if (!answer.ok) {
    render(byId("audit"), h("p", { class: "field-error" }, reasonOf(answer)));
    return;
  }
  const { consistent, checked, violations } = answer.body;
  announce(consistent ? "The audit is clean." : `The audit found ${violations.length} violations.`);
  render(byId("audit"),
    h("div", { class: ["verdict", !consistent && "broken"] },
      h("span", { class: "mark", "aria-hidden": "true" }, consistent ? "✓" : "!"),
      h("p", {}, h("strong", {}, consistent ? "Everything adds up" : `${violations.length} violations`),
        h("span", { class: "muted small" }, `at ${new Date().toLocaleTimeString()}`))),
    h("dl", { class: "figures" }, Object.entries(checked).map(([name, count]) => h("div", {},
      h("dt", {}, name.replaceAll("_", " ")), h("dd", {}, count.toLocaleString())))),
    violations.length > 0 && h("ul", { class: "violations" }, violations.slice(0, MOST_VIOLATIONS).map(violationOf)));
}

const violationOf = (violation) => h("li", {}, h("code", {}, violation.code), " ", violation.subject,
  h("p", { class: "small muted" }, violation.detail));
