// How it is paid: the sandbox gateway's test tokens, the ordinary ones first.

import { h } from "../lib/dom.js";

const ORDINARY = [
  { token: "pm_card_visa", method: "card", label: "Visa •••• 4242", hint: "Works" },
  { token: "pm_card_chargeDeclined", method: "card", label: "Visa •••• 0002", hint: "Is declined" },
  { token: "pm_card_chargeDeclinedInsufficientFunds", method: "card", label: "Visa •••• 9995", hint: "Has insufficient funds" },
  { token: "pm_card_authenticationRequired", method: "card", label: "Visa •••• 3220", hint: "Asks for 3-D Secure" },
  { token: "pm_sandbox_paypal", method: "paypal", label: "PayPal", hint: "Sends you to PayPal and back" },
];
const UNUSUAL = [
  { token: "pm_sandbox_wallet", method: "wallet", label: "Wallet", hint: "Works" },
  { token: "pm_sandbox_slow_3000", method: "card", label: "Slow card", hint: "Takes three seconds" },
  { token: "pm_sandbox_error_once", method: "card", label: "Stumbling gateway", hint: "Breaks once, then works" },
  { token: "pm_sandbox_timeout_before", method: "card", label: "Silent gateway, not charged", hint: "No answer; the outcome has to be found out" },
  { token: "pm_sandbox_timeout_after", method: "card", label: "Silent gateway, charged", hint: "No answer, though the money moved" },
];

let lastChoice = ORDINARY[0].token;

/** The methods as radio buttons: `element`, and `chosen()` → `{method, token}`. */
export function paymentChoices() {
  const isUnusual = UNUSUAL.some((payment) => payment.token === lastChoice);
  const element = h("fieldset", { class: "choices" }, h("legend", { class: "visually-hidden" }, "Ways to pay"),
    ORDINARY.map(choice),
    h("details", { class: "more", open: isUnusual }, h("summary", {}, "Trouble on purpose"), UNUSUAL.map(choice)),
    h("p", { class: "muted small" }, "Test tokens of the sandbox gateway. No money moves, and card numbers are refused everywhere."));
  return { element, chosen: () => chosenOf(element) };
}

function choice(payment) {
  return h("label", { class: "choice" },
    h("input", { type: "radio", name: "payment", value: payment.token, id: payment.token, checked: payment.token === lastChoice }),
    h("span", { class: "choice-text" }, h("strong", {}, payment.label), h("span", { class: "muted" }, payment.hint)),
    h("code", { class: "token" }, payment.token));
}

function chosenOf(element) {
  lastChoice = element.querySelector("input:checked").value;
  const { method, token } = [...ORDINARY, ...UNUSUAL].find((payment) => payment.token === lastChoice);
  return { method, token };
}

const DECLINES = {
  card_declined: ["The card was declined", "The bank gave no reason. Another card or PayPal may do."],
  insufficient_funds: ["Not enough on the card", "Try a smaller order, or another way to pay."],
  expired_card: ["The card has expired", "Please use another one."],
  authentication_failed: ["The bank did not confirm it was you", "Try again, or pay in another way."],
};

/** What to say of a 402: `{title, text}`. */
export function declineOf(problem) {
  const [title, text] = DECLINES[problem.errors?.[0]?.code] ?? ["The payment did not succeed", problem.detail];
  return { title, text: `${text} Your things are still reserved, and nothing was charged.` };
}
