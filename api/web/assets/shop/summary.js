// What is bought and what it comes to, beside the steps of the checkout and on the order.

import { h } from "../lib/dom.js";
import { labelOf, money } from "../lib/money.js";
import { show as showTime } from "./countdown.js";
import { pictureOf, productOf } from "./state.js";

/** Lines and totals of a checkout or an order. */
export function summaryOf(resource) {
  const { currency } = resource;
  return [
    h("ul", { class: "lines compact" }, resource.line_items.map((line) => lineOf(line, currency))),
    totalsOf(resource),
  ];
}

/** The totals of a cart, a checkout or an order, in the API's order. */
export const totalsOf = ({ totals, currency }) => h("dl", { class: "totals" },
  totals.map((entry) => h("div", { class: [entry.type, entry.included && "included"] },
    h("dt", {}, labelOf(entry)), h("dd", {}, money(entry.amount, currency)))));

function lineOf(line, currency) {
  const product = productOf(line.sku);
  return h("li", { class: "line" },
    product && h("img", { src: pictureOf(product), alt: "", width: 48, height: 48 }),
    h("div", { class: "line-text" }, h("p", { class: "line-title" }, line.title),
      h("p", { class: "muted" }, `${line.quantity} × ${money(line.unit_price, currency)}`)),
    h("p", { class: "line-amount" }, money(line.amount, currency)));
}

/** "Reserved for you, 14:32". */
export function reservationOf(checkout) {
  if (!["held", "pinned"].includes(checkout.reservation.status)) return null;
  const time = h("span", { class: "time", "data-countdown": true });
  showTime(time);
  return h("p", { class: "reservation" }, h("span", {}, "Reserved for you"), time);
}
