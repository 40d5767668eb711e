// A checkout from its start to its order, as calls. Nothing is drawn here.

import { pause } from "../lib/dom.js";
import { watchCheckout } from "../lib/events.js";
import { call, newKey } from "../lib/http.js";
import { totalOf } from "../lib/money.js";
import { dropCart } from "./cart.js";
import { keepToken, refreshStock, remember, shop, tell, underWay } from "./state.js";

const PAYMENT_WAIT_S = 20;
const ASK_AGAIN_MS = 1000;

let watching = null;

/** Reserves what is in the cart. `onShortage`: "reject" or "accept_available". */
export async function startCheckout(onShortage) {
  const body = { cart_id: shop.cart.id, on_shortage: onShortage };
  const answer = await call("POST", "/v1/checkouts", { body, token: shop.token, key: newKey() });
  if (answer.ok) {
    keepToken(answer.body);
    takeUp(answer.body);
  }
  refreshStock();
  return answer;
}

/** Takes up the checkout of an earlier visit, if it is still under way. */
export async function resumeCheckout(former) {
  if (former.checkoutId) await fetchCheckout(former.checkoutId);
}

export async function patchCheckout(fields) {
  const path = `/v1/checkouts/${shop.checkout.id}`;
  const answer = await call("PATCH", path, { body: fields, token: shop.token, repeatable: true });
  if (answer.ok) adopt(answer.body);
  return answer;
}

/**
 * Pays and waits until it is known how that ended. Answers with 200 (the order), 202 (the buyer must act, see
 * `next_action`), or a problem. The same key asks again for as long as the outcome is open.
 */
export async function pay(payment) {
  const total = totalOf(shop.checkout);
  const body = { payments: total > 0 ? [payment] : [], expected_total: total };
  return post(`/v1/checkouts/${shop.checkout.id}/complete`, body);
}

/** After the buyer's step at the bank: answers as `pay` does. */
export async function confirmPayment(paymentId) {
  return post(`/v1/checkouts/${shop.checkout.id}/payments/${paymentId}/confirm`);
}

/** Reserves and pays in one. After a decline the checkout is there to be paid otherwise. */
export async function expressCheckout(lines, fields, payment) {
  const body = { line_items: lines, currency: shop.currency, ...fields, payments: [payment] };
  return post("/v1/express-checkouts", body);
}

/** Gives the reservation back. */
export async function cancelCheckout() {
  const path = `/v1/checkouts/${shop.checkout.id}/cancel`;
  const answer = await call("POST", path, { token: shop.token, key: newKey() });
  if (answer.ok) adopt(answer.body);
  refreshStock();
  return answer;
}

/** Reads a checkout and follows it. */
export async function fetchCheckout(id = shop.checkout.id, quiet = false) {
  const answer = await call("GET", `/v1/checkouts/${id}`, { token: shop.token, quiet });
  if (answer.ok) takeUp(answer.body);
  return answer;
}

/** Forgets a checkout that has ended. */
export function putAside() {
  watching?.abort();
  watching = null;
  shop.checkout = null;
  remember();
  tell("checkout");
}

/** The payment that waits for the buyer. */
export const waitingPayment = () => shop.checkout?.payments.find((payment) => payment.status === "requires_action");

async function post(path, body) {
  const key = newKey();
  const ask = () => call("POST", path, { body, key, token: shop.token, waitS: PAYMENT_WAIT_S });
  let answer = await ask();
  while (answer.status === 202 && !mustAct(answer)) {
    await takeInterim(answer);
    await pause(ASK_AGAIN_MS);
    answer = await ask();
  }
  await conclude(answer);
  return answer;
}

const mustAct = (answer) => answer.body.checkout.status === "requires_escalation";

async function takeInterim(answer) {
  keepToken(answer.body);
  takeUp(answer.body.checkout);
}

async function conclude(answer) {
  keepToken(answer.body);
  if (answer.status === 202) takeUp(answer.body.checkout);
  else if (answer.ok) ordered(answer.body.order, answer.body.checkout.cart_id);
  else if (answer.body?.checkout_id) await fetchCheckout(answer.body.checkout_id, true);
  refreshStock();
}

/** The order is durable: cart and checkout have served. */
export function ordered(order, cartId) {
  putAside();
  if (shop.cart && cartId === shop.cart.id) dropCart();
  window.location.hash = `#/order/${order.id}`;
}

function takeUp(checkout) {
  adopt(checkout);
  if (watching?.checkoutId === checkout.id || !underWay()) return;
  watching?.abort();
  watching = Object.assign(new AbortController(), { checkoutId: checkout.id });
  watchCheckout(checkout.id, shop.token, adopt, watching.signal);
}

function adopt(checkout) {
  const known = shop.checkout;
  if (known && known.id === checkout.id && checkout.version < known.version) return;
  shop.checkout = checkout;
  remember();
  tell("checkout");
}
