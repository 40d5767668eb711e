// One SKU's account: how many, who holds them, which actor owns it; and adjusting it.

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { call, newKey, reasonOf, serverNow } from "../lib/http.js";
import { ops } from "./session.js";

let sku = "";

export async function installStock() {
  byId("stock-form").addEventListener("submit", (event) => {
    event.preventDefault();
    sku = byId("sku").value.trim();
    busy(byId("stock-form").querySelector("button"), () => refreshStock(true));
  });
  const answer = await call("GET", "/demo/products.json", { quiet: true });
  const products = answer.ok ? answer.body.products : [];
  render(byId("skus"), products.map((product) => h("option", { value: product.sku }, product.title)));
}

/** Shows the account that was asked for; by itself it leaves a form alone that somebody types in. */
export async function refreshStock(asked = false) {
  if (!sku || (!asked && byId("stock").contains(document.activeElement))) return;
  const answer = await ops("GET", `/v1/ops/stock/${encodeURIComponent(sku)}`, { quiet: !asked });
  const text = answer.status === 404 ? `There is no product ${sku}.` : reasonOf(answer);
  render(byId("stock"), answer.ok ? accountOf(answer.body) : h("p", { class: "field-error", role: "alert" }, text));
}

function accountOf(account) {
  const parts = [["sold", account.sold], ["reserved", account.reserved], ["available", account.available]];
  const meter = h("div", { class: "meter", "aria-hidden": "true" }, parts.map(([name, units]) => {
    const part = h("span", { class: `of-${name}` });
    part.style.width = `${account.received > 0 ? (100 * units) / account.received : 0}%`;
    return part;
  }));
  return [
    h("dl", { class: "figures" },
      parts.map(([name, units]) => figure([h("span", { class: `swatch of-${name}` }), name], units)),
      figure("on hand", account.on_hand), figure("received", account.received)),
    meter,
    h("p", { class: "muted small owner" }, "Owned by ", h("code", {}, account.owner), `, epoch ${account.epoch}`),
    holdsOf(account.holds),
    adjustment(),
  ];
}

const figure = (name, units) => h("div", {}, h("dt", {}, name), h("dd", {}, units.toLocaleString()));

function holdsOf(holds) {
  if (holds.length === 0) return h("p", { class: "muted small" }, "Nobody holds any.");
  return h("div", { class: "holds" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", {}, "Checkout"), h("th", { class: "amount" }, "Units"), h("th", {}, "Until"))),
    h("tbody", {}, holds.map((hold) => h("tr", {}, h("td", {}, h("code", {}, hold.checkout_id)),
      h("td", { class: "amount" }, String(hold.quantity)),
      h("td", { class: "nowrap" }, hold.pinned ? "pinned" : left(hold.expires_at)))))));
}

function left(expiresAt) {
  const seconds = Math.max(0, Math.round((Date.parse(expiresAt) - serverNow()) / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")} left`;
}

function adjustment() {
  const kind = h("select", { "aria-label": "How" },
    h("option", { value: "delta" }, "add"), h("option", { value: "set" }, "set to"));
  const units = h("input", { type: "number", step: "1", required: true, "aria-label": "Units", placeholder: "units" });
  const reason = h("input", { required: true, maxlength: "200", "aria-label": "Reason", placeholder: "reason" });
  const button = h("button", { class: "button small ghost", type: "submit" }, "Adjust");
  const error = h("p", { class: "field-error", role: "alert" });
  const send = (event) => {
    event.preventDefault();
    busy(button, async () => {
      const body = { [kind.value]: Number(units.value), reason: reason.value };
      const answer = await ops("POST", `/v1/ops/stock/${encodeURIComponent(sku)}/adjustments`, { body, key: newKey() });
      error.textContent = answer.ok ? "" : reasonOf(answer);
      if (answer.ok) {
        announce("Adjusted.");
        await refreshStock(true);
      }
    });
  };
  return h("form", { onsubmit: send }, h("div", { class: "adjust" }, kind, units, reason, button), error);
}
