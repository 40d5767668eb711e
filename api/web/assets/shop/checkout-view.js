// The checkout as a page: three steps and what interrupts them. Drawn from the checkout as the API tells it.

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { call, reasonOf } from "../lib/http.js";
import { money, totalOf } from "../lib/money.js";
import { offerBank } from "./bank.js";
import { cancelCheckout, fetchCheckout, ordered, patchCheckout, pay } from "./checkout.js";
import { deliveryChoices } from "./delivery-step.js";
import { detailsForm, findingsOf } from "./details-step.js";
import { canceledPanel, nothingPanel, payingPanel } from "./interruptions.js";
import { declineOf, paymentChoices } from "./payment-step.js";
import { on, shop } from "./state.js";
import { reservationOf, summaryOf } from "./summary.js";

const STEPS = [["details", "Address"], ["delivery", "Delivery"], ["payment", "Payment"]];

let current = "";
let step = "details";
let notice = null;
let findings = [];
let shown = "";

export function installCheckoutView() {
  on(["checkout"], () => { if (!byId("checkout-view").hidden) show(); });
}

/** Draws the page. */
export function openCheckoutView() {
  shown = "";
  show();
}

/** What the page will show first: the payment step, with what went wrong. */
export function explainDecline(problem) {
  begin(shop.checkout);
  notice = declineOf(problem);
  step = "payment";
}

/** A new checkout starts at the first step that is not done. */
function begin(checkout) {
  if (!checkout || checkout.id === current) return;
  current = checkout.id;
  notice = null;
  step = findingsOf(checkout.messages).some(isAboutDetails) ? "details" : "delivery";
}

function show() {
  const { checkout } = shop;
  begin(checkout);
  render(byId("checkout-summary"), checkout ? [reservationOf(checkout), summaryOf(checkout)] : []);
  const panel = panelOf(checkout);
  if (shown === panel.key) return;
  const moved = shown !== "";
  shown = panel.key;
  render(byId("checkout-panel"), panel.draw());
  const heading = byId("checkout-panel").querySelector("h1");
  if (moved && !byId("checkout-panel").contains(document.activeElement)) heading?.focus();
}

/** What to draw; drawn anew only when `key` changes, so that typing survives what happens elsewhere. */
function panelOf(checkout) {
  if (!checkout) return { key: "none", draw: nothingPanel };
  switch (checkout.status) {
    case "completed":
      followOrder(checkout);
      return { key: "completed", draw: payingPanel };
    case "canceled":
      return { key: `canceled ${checkout.id}`, draw: canceledPanel };
    case "complete_in_progress":
      return { key: "paying", draw: payingPanel };
    case "requires_escalation":
      return { key: `bank ${checkout.id}`, draw: () => offerBank(afterPayment) };
    default: {
      const options = checkout.shipping_options.map((option) => option.id + option.amount).join();
      const changing = { details: "", delivery: options, payment: totalOf(checkout) }[step];
      const key = [step, checkout.id, changing, notice?.title];
      return { key: key.join(" "), draw: () => [stepsBar(), noticeBox(), ...PANELS[step]()] };
    }
  }
}

/** Paid meanwhile, in another tab or before a reload. */
async function followOrder(checkout) {
  const answer = await call("GET", `/v1/orders/${checkout.order_id}`, { token: shop.token });
  if (answer.ok && shop.checkout?.id === checkout.id) ordered(answer.body, checkout.cart_id);
}

function stepsBar() {
  const current = STEPS.findIndex(([name]) => name === step);
  return h("ol", { class: "steps" }, STEPS.map(([name, label], index) => h("li", {
    class: [index < current && "done", index === current && "current"], "aria-current": index === current && "step",
  }, index < current
    ? h("button", { type: "button", class: "link", onclick: () => goTo(name) }, label)
    : h("span", {}, label))));
}

function noticeBox() {
  const cut = shop.checkout.messages.filter((message) => message.type !== "error" && message.content);
  return [
    notice && h("div", { class: "notice error", role: "alert" },
      h("strong", {}, notice.title), h("p", {}, notice.text)),
    cut.map((message) => h("div", { class: "notice info" }, h("p", {}, withTitles(message.content)))),
  ];
}

/** The API speaks of SKUs; the buyer knows titles. */
function withTitles(text) {
  const lines = shop.cart?.line_items ?? [];
  return lines.reduce((told, line) => told.replaceAll(line.sku, line.title), text);
}

function goTo(name) {
  step = name;
  notice = null;
  show();
}

const PANELS = { details: detailsPanel, delivery: deliveryPanel, payment: paymentPanel };

function heading(text) {
  return h("h1", { tabindex: "-1" }, text);
}

function detailsPanel() {
  const form = detailsForm("buyer");
  const submit = h("button", { class: "button", type: "submit" }, "Continue to delivery");
  const element = formOf(submit, () => sendDetails(form),
    heading("Where does it go?"), form.element, h("div", { class: "actions" }, submit, releaseButton()));
  if (findings.length > 0) queueMicrotask(() => { form.show(findings); findings = []; });
  return [element];
}

async function sendDetails(form) {
  const answer = await patchCheckout(form.read());
  const found = findingsOf(answer.ok ? answer.body.messages : answer.body?.errors);
  if (form.show(found)) {
    announce(`${found.length === 1 ? "One field needs" : `${found.length} fields need`} another look.`);
  } else if (answer.ok) {
    goTo("delivery");
  } else {
    fail(reasonOf(answer));
  }
}

const isAboutDetails = ({ path }) => path.startsWith("$.buyer") || path.startsWith("$.shipping_address");

function deliveryPanel() {
  const next = h("button", { class: "button", type: "button", onclick: () => goTo("payment") }, "Continue to payment");
  return [heading("How shall it travel?"), deliveryChoices(chooseDelivery),
    h("div", { class: "actions" }, next, releaseButton())];
}

async function chooseDelivery(id) {
  const answer = await patchCheckout({ selected_shipping_option: id });
  if (!answer.ok) fail(reasonOf(answer));
}

function paymentPanel() {
  const choices = paymentChoices();
  const total = money(totalOf(shop.checkout), shop.checkout.currency);
  const submit = h("button", { class: "button", type: "submit" }, `Pay ${total}`);
  return [formOf(submit, () => send(choices.chosen()),
    heading("How would you like to pay?"), choices.element, h("div", { class: "actions" }, submit, releaseButton()))];
}

function formOf(submit, work, ...children) {
  const onsubmit = (event) => {
    event.preventDefault();
    busy(submit, work);
  };
  return h("form", { novalidate: true, onsubmit }, children);
}

async function send(payment) {
  notice = null;
  announce("Paying …");
  afterPayment(await pay(payment));
}

/** What follows a payment or its confirmation; orders and steps at the bank have shown themselves already. */
function afterPayment(answer) {
  if (answer.ok) return;
  const { code } = answer.body ?? {};
  if (code === "payment_failed") {
    const decline = declineOf(answer.body);
    fail(decline.text, decline.title);
  } else if (code === "total_changed") {
    fetchCheckout();
    fail("Have a look at the new total before you pay.", "The total has changed");
  } else if (code === "checkout_not_ready") {
    findings = findingsOf(answer.body.errors);
    step = findings.some(isAboutDetails) ? "details" : "delivery";
    fail(reasonOf(answer), "Something is still missing");
  } else if (code === "checkout_canceled" || code === "reservation_expired") {
    fetchCheckout();
  } else {
    fail(reasonOf(answer));
  }
}

function fail(text, title = "That did not work") {
  notice = { title, text };
  shown = "redraw";
  show();
}

function releaseButton() {
  const button = h("button", { class: "button quiet", type: "button" }, "Cancel and release");
  button.addEventListener("click", () => busy(button, async () => {
    const answer = await cancelCheckout();
    if (!answer.ok) fail(reasonOf(answer));
  }));
  return button;
}
