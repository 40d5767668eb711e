// "Buy now": one product, one form, one call.

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { reasonOf } from "../lib/http.js";
import { money } from "../lib/money.js";
import { expressCheckout } from "./checkout.js";
import { explainDecline } from "./checkout-view.js";
import { detailsForm, findingsOf } from "./details-step.js";
import { paymentChoices } from "./payment-step.js";
import { pictureOf, productOf, shop } from "./state.js";

/** Draws the page for one product. */
export function openExpressView(sku) {
  const product = productOf(sku);
  if (!product) {
    window.location.hash = "#/";
    return;
  }
  const form = detailsForm("express");
  const choices = paymentChoices();
  const complaint = h("div", { role: "alert" });
  const submit = h("button", { class: "button", type: "submit" }, "Buy now");
  const work = (event) => {
    event.preventDefault();
    busy(submit, () => send(product, form, choices, complaint));
  };
  render(byId("express-panel"), h("form", { novalidate: true, onsubmit: work },
    h("h1", { tabindex: "-1" }, "Buy now"), complaint,
    h("h2", {}, "Where does it go?"), form.element, h("h2", {}, "How would you like to pay?"), choices.element,
    h("div", { class: "actions" }, submit, h("a", { class: "button quiet", href: "#/" }, "Back"))));
  render(byId("express-summary"), h("figure", { class: "hero-product" },
    h("img", { src: pictureOf(product), alt: "", width: 320, height: 320 }),
    h("figcaption", {}, h("strong", {}, product.title), h("p", { class: "muted" }, product.description),
      h("p", { class: "price" }, money(product.prices[shop.currency], shop.currency)))),
  h("p", { class: "muted small" }, "Sent the cheapest way; delivery and tax are added. ",
    "One call reserves, pays and orders: ", h("code", {}, "POST /v1/express-checkouts")));
}

async function send(product, form, choices, complaint) {
  render(complaint);
  announce("Paying …");
  const lines = [{ sku: product.sku, quantity: 1 }];
  const answer = await expressCheckout(lines, withoutNulls(form.read()), choices.chosen());
  const { code } = answer.body ?? {};
  if (answer.status === 202) {
    window.location.hash = "#/checkout";
  } else if (code === "payment_failed" && shop.checkout) {
    explainDecline(answer.body);
    window.location.hash = "#/checkout";
  } else if (!answer.ok && !form.show(findingsOf(answer.body?.errors))) {
    const soldOut = `Somebody was quicker: ${product.title} is sold out.`;
    complain(complaint, code === "out_of_stock" ? soldOut : reasonOf(answer));
  }
}

function complain(place, sentence) {
  render(place, h("div", { class: "notice error" }, h("p", {}, sentence)));
}

/** An express checkout starts from nothing: there is nothing to take back. */
function withoutNulls({ buyer, shipping_address: address }) {
  const filled = (fields) => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== null));
  return { buyer: filled(buyer), shipping_address: filled(address) };
}
