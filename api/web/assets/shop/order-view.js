// The order: its number, how it stands, what it holds, and everything that happened to it.

import { busy, byId, h, pause, render } from "../lib/dom.js";
import { call, newKey, reasonOf } from "../lib/http.js";
import { shop } from "./state.js";
import { summaryOf } from "./summary.js";

const SETTLING_MS = 700;
const SETTLING_ATTEMPTS = 12;
const CANCELABLE = new Set(["pending", "confirmed"]);

/** Draws the order of an id, and follows its payment until it is settled. */
export async function openOrderView(id) {
  for (let attempt = 0; attempt < SETTLING_ATTEMPTS; attempt += 1) {
    const answer = await call("GET", `/v1/orders/${id}`, { token: shop.token, quiet: attempt > 0 });
    if (window.location.hash !== `#/order/${id}`) return;
    await show(answer, attempt === 0);
    if (!answer.ok || answer.body.payment_status !== "authorized" || answer.body.status === "pending") return;
    await pause(SETTLING_MS);
  }
}

async function show(answer, first) {
  if (!answer.ok) {
    render(byId("order-panel"), h("div", { class: "interruption" },
      h("h1", { tabindex: "-1" }, "No such order"), h("p", { class: "muted" }, reasonOf(answer)), backToShop()));
    render(byId("order-summary"));
    return;
  }
  const order = answer.body;
  const events = await call("GET", `/v1/orders/${order.id}/events`, { token: shop.token, quiet: !first });
  render(byId("order-summary"), h("h2", {}, "Your order"), summaryOf(order));
  render(byId("order-panel"), headline(order), facts(order), events.ok && trail(events.body.data), actions(order));
  if (first) byId("order-panel").querySelector("h1").focus();
}

function headline(order) {
  const canceled = order.status === "canceled";
  return h("header", { class: "order-head" },
    h("p", { class: ["seal", canceled && "canceled"], "aria-hidden": "true" }, canceled ? "×" : "✓"),
    h("h1", { tabindex: "-1" }, canceled ? "Order canceled" : thanks(order)),
    h("p", { class: "order-number" }, "Order ", h("strong", {}, order.number)),
    h("p", { class: "badges" }, badge(order.status), badge(order.payment_status)));
}

function thanks(order) {
  const name = order.buyer?.name?.split(/\s/)[0];
  const hello = name ? `Thank you, ${name}.` : "Thank you.";
  return order.status === "pending" ? `${hello} We have a look at it.` : `${hello} It is yours.`;
}

const badge = (status) => h("span", { class: `badge ${status}` }, status);

function facts(order) {
  const address = order.ship_to ?? order.shipping_address;
  const town = [address.postal_code, address.city, address.region].filter(Boolean).join(" ");
  const lines = [address.name, address.line1, address.line2, town, address.country].filter(Boolean);
  return h("div", { class: "order-facts" },
    h("section", {}, h("h2", {}, "Goes to"), h("address", {}, lines.map((line) => h("span", {}, line)))),
    h("section", {}, h("h2", {}, "Paid with"),
      order.payments.map((payment) => h("p", {}, `${payment.method} · ${payment.status}`)),
      order.tracking && h("p", {}, `${order.tracking.carrier} ${order.tracking.tracking_number}`)));
}

function trail(entries) {
  return h("details", { class: "trail" }, h("summary", {}, `What happened (${entries.length})`),
    h("ol", {}, entries.map((entry) => h("li", {},
      h("time", { datetime: entry.at }, new Date(entry.at).toLocaleTimeString()),
      h("span", {}, entry.type), h("span", { class: "muted" }, entry.actor)))));
}

function actions(order) {
  const cancel = h("button", { class: "button quiet", type: "button" }, "Cancel the order");
  cancel.addEventListener("click", () => busy(cancel, async () => {
    const path = `/v1/orders/${order.id}/cancel`;
    const answer = await call("POST", path, { body: {}, token: shop.token, key: newKey() });
    if (answer.ok) openOrderView(order.id);
    else cancel.after(h("p", { class: "field-error", role: "alert" }, reasonOf(answer)));
  }));
  return h("div", { class: "actions" }, backToShop(), CANCELABLE.has(order.status) && cancel);
}

const backToShop = () => h("a", { class: "button", href: "#/" }, "Back to the shop");
