// The orders, newest first, and what an operator does with them.

import { announce, busy, byId, h, render, whenNew } from "../lib/dom.js";
import { newKey, reasonOf } from "../lib/http.js";
import { money, totalOf } from "../lib/money.js";
import { ops } from "./session.js";

const PAGE = 20;
const SHORT = { dateStyle: "short", timeStyle: "medium" };

let cursor = null;
let shipping = null;

export function installOrders() {
  byId("orders-status").addEventListener("change", () => { cursor = null; refreshOrders(); });
  byId("orders-newest").addEventListener("click", () => { cursor = null; refreshOrders(); });
  byId("ship-close").addEventListener("click", () => byId("ship").close());
  byId("ship-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const body = { carrier: byId("carrier").value, tracking_number: byId("tracking").value };
    byId("ship").close();
    act(`/v1/ops/orders/${shipping.id}/ship`, body, "shipped", shipping);
  });
}

export async function refreshOrders() {
  const status = byId("orders-status").value;
  const query = new URLSearchParams({ limit: PAGE, ...(status && { status }), ...(cursor && { cursor }) });
  const answer = await ops("GET", `/v1/ops/orders?${query}`, { quiet: true });
  if (!answer.ok) return;
  const { data, next_cursor: next } = answer.body;
  draw(data);
  byId("orders-newest").hidden = cursor === null;
  byId("orders-older").hidden = next === null;
  byId("orders-older").onclick = () => { cursor = next; refreshOrders(); };
}

const draw = whenNew((orders) => render(byId("orders"), orders.length === 0
  ? h("tr", {}, h("td", { colspan: 8, class: "muted" }, "No orders."))
  : orders.map(rowOf)));

function rowOf(order) {
  const goods = order.line_items.map((line) => `${line.quantity} × ${line.title}`).join(", ");
  return h("tr", {},
    h("td", {}, h("code", { title: order.id }, order.number)),
    h("td", {}, h("time", { datetime: order.created_at }, new Date(order.created_at).toLocaleString(undefined, SHORT))),
    h("td", {}, order.buyer?.name ?? "–"),
    h("td", { class: "goods" }, goods),
    h("td", { class: "amount" }, money(totalOf(order), order.currency)),
    h("td", {}, badge(order.status)), h("td", {}, badge(order.payment_status)),
    h("td", {}, h("span", { class: "row-actions" }, actionsOf(order))));
}

const badge = (status) => h("span", { class: `badge ${status}` }, status);

function actionsOf(order) {
  const path = `/v1/ops/orders/${order.id}`;
  const review = (decision) => ({ decision, reason: "looked at" });
  switch (order.status) {
    case "pending":
      return [
        action(order, "Approve", "ghost", () => act(`${path}/review`, review("approve"), "confirmed", order)),
        action(order, "Deny", "quiet", () => act(`${path}/review`, review("deny"), "canceled", order)),
      ];
    case "confirmed":
      return [
        action(order, "Ship", "ghost", () => askForParcel(order)),
        action(order, "Cancel", "quiet", () => act(`/v1/orders/${order.id}/cancel`, {}, "canceled", order)),
      ];
    case "shipped":
      return [action(order, "Delivered", "ghost", () => act(`${path}/deliver`, {}, "delivered", order))];
    default:
      return [];
  }
}

function action(order, label, style, work) {
  const button = h("button", {
    type: "button", class: `button small ${style}`,
    "aria-label": `${label} ${order.number}`, "data-focus": `${order.id}${label}`,
  }, label);
  button.addEventListener("click", () => busy(button, work));
  return button;
}

function askForParcel(order) {
  shipping = order;
  byId("ship-title").textContent = `Ship ${order.number}`;
  byId("tracking").value = "";
  byId("ship").showModal();
  byId("tracking").focus();
}

async function act(path, body, done, order) {
  const answer = await ops("POST", path, { body, key: newKey() });
  byId("orders-error").textContent = answer.ok ? "" : reasonOf(answer);
  if (answer.ok) announce(`${order.number} is ${done}.`);
  await refreshOrders();
}
