// What a checkout shows instead of its steps: nothing there, money on its way, or the end without an order.

import { busy, h } from "../lib/dom.js";
import { beginCheckout } from "./cart-drawer.js";
import { cancelCheckout, putAside } from "./checkout.js";
import { shop } from "./state.js";

const ENDS = {
  expired: ["The reservation has run out", "The goods are back on the shelf; your cart is as it was."],
  buyer: ["Called off", "The goods are back on the shelf, and nothing was charged."],
  payment: ["Too many declined payments", "Your cart is as it was, and nothing was charged."],
  replaced: ["Replaced", "Another checkout of this cart took its place, in another window perhaps."],
  fraud: ["The order cannot be accepted", "Nothing was charged."],
};

export function nothingPanel() {
  return panel("○", "No checkout is under way", "Fill the cart first, then check out.", backToShop());
}

export function payingPanel() {
  return h("div", { class: "interruption" }, h("div", { class: "spinner", "aria-hidden": "true" }),
    h("h1", { tabindex: "-1" }, "Paying"),
    h("p", { class: "muted" }, "An answer usually takes a moment. If the gateway keeps silent, ",
      "its outcome is found out before anything else happens: you are never charged twice."),
    release("Cancel as soon as that is possible"));
}

export function canceledPanel() {
  const [title, text] = ENDS[shop.checkout.cancel_reason] ?? ENDS.buyer;
  const fromCart = shop.cart && shop.checkout.cart_id === shop.cart.id;
  return panel("↺", title, text, fromCart && reserveAgain(), backToShop());
}

function panel(sign, title, text, ...actions) {
  return h("div", { class: "interruption" }, h("p", { class: "sign", "aria-hidden": "true" }, sign),
    h("h1", { tabindex: "-1" }, title), h("p", { class: "muted" }, text), h("div", { class: "actions" }, actions));
}

const backToShop = () => h("a", { class: "button ghost", href: "#/", onclick: leave }, "Back to the shop");

function leave() {
  if (shop.checkout?.status === "canceled") putAside();
}

function reserveAgain() {
  const button = h("button", { class: "button", type: "button" }, "Reserve again");
  button.addEventListener("click", () => busy(button, () => beginCheckout("reject")));
  return button;
}

function release(label) {
  const button = h("button", { class: "button quiet", type: "button" }, label);
  button.addEventListener("click", () => busy(button, cancelCheckout));
  return button;
}
