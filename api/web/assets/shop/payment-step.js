// How it is paid: the sandbox gateway's test tokens, the ordinary ones first.

import { h } from "../lib/dom.js";

const payment = (token, method, label, hint) => ({ token, method, label, hint });

const ORDINARY = [
  payment("pm_card_visa", "card", "Visa •••• 4242", "Works"),
  payment("pm_card_chargeDeclined", "card", "Visa •••• 0002", "Is declined"),
  payment("pm_card_chargeDeclinedInsufficientFunds", "card", "Visa •••• 9995", "Has insufficient funds"),
  payment("pm_card_authenticationRequired", "card", "Visa •••• 3220", "Asks for 3-D Secure"),
  payment("pm_sandbox_paypal", "paypal", "PayPal", "Sends you to PayPal and back"),
];
const UNUSUAL = [
  payment("pm_sandbox_wallet", "wallet", "Wallet", "Works"),
  payment("pm_sandbox_slow_3000", "card", "Slow card", "Takes three seconds"),
  payment("pm_sandbox_error_once", "card", "Stumbling gateway", "Breaks once, then works"),
  payment("pm_sandbox_timeout_before", "card", "Silent gateway, not charged", "Gives no answer; what happened is found out"),
  payment("pm_sandbox_timeout_after", "card", "Silent gateway, charged", "Gives no answer, though the money moved"),
];

let lastChoice = ORDINARY[0].token;

/** The methods as radio buttons: `element`, and `chosen()` → `{method, token}`. */
export function paymentChoices() {
  const isUnusual = UNUSUAL.some(({ token }) => token === lastChoice);
  const element = h("fieldset", { class: "choices" }, h("legend", { class: "visually-hidden" }, "Ways to pay"),
    ORDINARY.map(choice),
    h("details", { class: "more", open: isUnusual }, h("summary", {}, "Trouble on purpose"), UNUSUAL.map(choice)),
    h("p", { class: "muted small" },
      "Test tokens of the sandbox gateway. No money moves, and card numbers are refused everywhere."));
  return { element, chosen: () => chosenOf(element) };
}

function choice({ token, label, hint }) {
  return h("label", { class: "choice" },
    h("input", { type: "radio", name: "payment", value: token, id: token, checked: token === lastChoice }),
    h("span", { class: "choice-text" }, h("strong", {}, label), h("span", { class: "muted" }, hint)),
    h("code", { class: "token" }, token));
}

function chosenOf(element) {
  lastChoice = element.querySelector("input:checked").value;
  const { method, token } = [...ORDINARY, ...UNUSUAL].find((candidate) => candidate.token === lastChoice);
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
  const end = problem.errors?.find(({ code }) => code === "checkout_canceled");
  return { title, text: end ? end.message : `${text} Your things are still reserved, and nothing was charged.` };
}
