// The cart as a drawer: quantities, totals, and what is short when a checkout was refused.

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { reasonOf } from "../lib/http.js";
import { money } from "../lib/money.js";
import { setQuantity } from "./cart.js";
import { startCheckout } from "./checkout.js";
import { on, pictureOf, productOf, shop, underWay } from "./state.js";
import { totalsOf } from "./summary.js";

const dialog = byId("cart");
let shortages = new Map();
let complaint = "";

export function installCartDrawer() {
  byId("cart-button").addEventListener("click", openCart);
  byId("cart-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  on(["cart", "currency", "checkout"], show);
  show();
}

export function openCart() {
  if (!dialog.open) dialog.showModal();
}

function show() {
  const lines = shop.cart?.line_items ?? [];
  const count = lines.reduce((sum, line) => sum + line.quantity, 0);
  render(byId("cart-count"), String(count));
  byId("cart-button").setAttribute("aria-label", `Cart, ${count === 1 ? "1 item" : `${count} items`}`);
  render(byId("cart-body"), lines.length === 0
    ? h("p", { class: "muted empty" }, "Nothing in here yet.")
    : [notice(), h("ul", { class: "lines" }, lines.map(lineOf)), footer()]);
}

function notice() {
  if (!complaint) return null;
  const isSomeLeft = shop.cart.line_items.some((line) => (shortages.get(line.sku)?.available ?? line.quantity) > 0);
  return h("div", { class: "notice error", role: "alert" }, h("p", {}, complaint),
    shortages.size > 0 && isSomeLeft
      && button("Take what there is", "accept", () => beginCheckout("accept_available")));
}

function lineOf(line) {
  const product = productOf(line.sku);
  const short = shortages.get(line.sku);
  return h("li", { class: ["line", short && "is-short"] },
    product && h("img", { src: pictureOf(product), alt: "", width: 64, height: 64 }),
    h("div", { class: "line-text" },
      h("p", { class: "line-title" }, line.title),
      h("p", { class: "muted" }, money(line.unit_price, shop.cart.currency)),
      short && h("p", { class: "field-error" }, short.available > 0 ? `Only ${short.available} left` : "Sold out")),
    h("div", { class: "stepper", role: "group", "aria-label": `Quantity of ${line.title}` },
      stepButton(line, -1, "−", line.quantity === 1 ? "Remove" : "One less"),
      h("output", {}, String(line.quantity)),
      stepButton(line, 1, "+", "One more")),
    h("p", { class: "line-amount" }, money(line.amount, shop.cart.currency)));
}

function stepButton(line, step, sign, label) {
  const target = h("button", {
    type: "button", class: "step", "aria-label": `${label}: ${line.title}`, "data-focus": `${line.id}${step}`,
    onclick: () => busy(target, () => change(line, line.quantity + step)),
  }, sign);
  return target;
}

async function change(line, quantity) {
  shortages.delete(line.sku);
  if (shortages.size === 0) complaint = "";
  const answer = await setQuantity(line.id, quantity);
  if (!answer.ok) complaint = reasonOf(answer);
  if (answer.ok) announce(quantity === 0 ? `${line.title} removed.` : `${quantity} of ${line.title}.`);
  show();
}

function footer() {
  return h("footer", { class: "cart-footer" },
    totalsOf(shop.cart),
    h("p", { class: "muted small" },
      "Delivery and tax follow with the address. Checking out reserves the goods for you."),
    underWay() && shop.checkout.cart_id === shop.cart.id && backToCheckout(),
    button(underWay() ? "Check out anew" : "Check out", "checkout", () => beginCheckout("reject")));
}

function backToCheckout() {
  const close = () => dialog.close();
  return h("a", { class: "button ghost wide", href: "#/checkout", onclick: close }, "Back to the checkout");
}

function button(label, focus, work) {
  const target = h("button", {
    type: "button", class: "button wide", "data-focus": focus, onclick: () => busy(target, work),
  }, label);
  return target;
}

/** Starts a checkout of the cart; where something is short, the cart opens and says so. */
export async function beginCheckout(onShortage) {
  shortages = new Map();
  complaint = "";
  const answer = await startCheckout(onShortage);
  if (answer.ok) {
    dialog.close();
    window.location.hash = "#/checkout";
    return;
  }
  if (answer.body?.code === "out_of_stock") {
    shortages = new Map(answer.body.errors.map((short) => [short.sku, short]));
    complaint = "Somebody was quicker: not everything is there any more. Nothing is reserved yet.";
  } else {
    complaint = reasonOf(answer);
  }
  show();
  openCart();
  announce(complaint);
}
