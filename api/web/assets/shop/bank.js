// The buyer's step outside the shop: a real gateway's page, or one that stands for the sandbox's bank.

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { call, newKey, reasonOf } from "../lib/http.js";
import { money } from "../lib/money.js";
import { opsToken } from "../lib/storage.js";
import { cancelCheckout, confirmPayment, waitingPayment } from "./checkout.js";
import { shop } from "./state.js";

const SANDBOX_PATH = "/v1/ops/sandbox/";

const dialog = byId("bank");

/** The panel that sends the buyer on. `afterPayment` gets the answer once the buyer is back. */
export function offerBank(afterPayment) {
  const payment = waitingPayment();
  const where = nameOf(payment);
  return h("div", { class: "interruption" }, h("p", { class: "sign", "aria-hidden": "true" }, "⇢"),
    h("h1", { tabindex: "-1" }, `${capitalized(where)} wants to hear from you`),
    h("p", { class: "muted" }, "Your things stay reserved while you are there. ",
      `The payment of ${money(payment.amount, shop.checkout.currency)} waits for your yes.`),
    h("div", { class: "actions" }, onwards(where, payment, afterPayment),
      withWork("I have been there", "ghost", () => confirmed(payment, afterPayment)),
      withWork("Cancel and release", "quiet", cancelCheckout)));
}

const nameOf = (payment) => (payment.method === "paypal" ? "PayPal" : "your bank");

const capitalized = (text) => text[0].toUpperCase() + text.slice(1);

function onwards(where, payment, afterPayment) {
  const url = new URL(shop.checkout.continue_url, window.location.href);
  const label = `Continue at ${where}`;
  if (!url.pathname.startsWith(SANDBOX_PATH)) return h("a", { class: "button", href: url.href }, label);
  const visit = () => visitBank(where, payment, afterPayment);
  return h("button", { class: "button", type: "button", onclick: visit }, label);
}

function visitBank(where, payment, afterPayment, complaint = "") {
  const token = opsToken.read();
  const field = h("input", { id: "bank-token", type: "password", autocomplete: "off", value: token ?? "" });
  const step = (label, style, outcome) => withWork(label, style, () => {
    opsToken.write(field.value.trim());
    return decide(where, payment, outcome, afterPayment);
  });
  render(byId("bank-body"),
    h("header", { class: ["bank-brand", `by-${payment.method}`] },
      payment.method === "paypal" ? "PayPal · sandbox" : "Sandbox Bank · 3-D Secure"),
    h("h2", {}, "Is this you?"),
    h("dl", { class: "bank-facts" },
      h("div", {}, h("dt", {}, "Merchant"), h("dd", {}, "Petal & Parcel")),
      h("div", {}, h("dt", {}, "Amount"), h("dd", {}, money(payment.amount, shop.checkout.currency))),
      h("div", {}, h("dt", {}, "Payment"), h("dd", {}, h("code", {}, payment.id)))),
    h("div", { class: "field", hidden: Boolean(token) && !complaint },
      h("label", { for: "bank-token" }, "Operator token"), field,
      h("p", { class: "muted small" }, "In the sandbox an operator stands in for the bank. ",
        h("code", {}, "lastunit token --ops"), " prints a token; it stays in this tab.")),
    h("p", { class: "field-error", role: "alert" }, complaint),
    h("div", { class: "actions" }, step("Approve", "", "succeed"), step("Refuse", "ghost", "fail"),
      h("button", { type: "button", class: "button quiet", onclick: () => dialog.close() }, "Later")));
  if (!dialog.open) dialog.showModal();
}

async function decide(where, payment, outcome, afterPayment) {
  const bearer = opsToken.read();
  if (!bearer) return visitBank(where, payment, afterPayment, "An operator token is needed.");
  const path = `${SANDBOX_PATH}payments/${payment.id}/resolve`;
  const answer = await call("POST", path, { body: { outcome }, bearer, key: newKey() });
  if (answer.status === 401 || answer.status === 403) {
    opsToken.forget();
    return visitBank(where, payment, afterPayment, "The shop does not take this token.");
  }
  if (!answer.ok && answer.body?.code !== "payment_not_pending") {
    return visitBank(where, payment, afterPayment, reasonOf(answer));
  }
  dialog.close();
  return confirmed(payment, afterPayment);
}

async function confirmed(payment, afterPayment) {
  announce("Asking how it went …");
  const answer = await confirmPayment(payment.id);
  if (answer.status === 202) announce("The payment still waits for your yes.");
  afterPayment(answer);
}

function withWork(label, style, work) {
  const button = h("button", { type: "button", class: ["button", style] }, label);
  button.addEventListener("click", () => busy(button, work));
  return button;
}
