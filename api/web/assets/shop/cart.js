// The guest's cart, as the API has it: every change is a call, and what comes back is what is shown.

import { call, newKey } from "../lib/http.js";
import { keepToken, remember, shop, tell } from "./state.js";

/** Takes up the cart of an earlier visit, if it is still open. */
export async function resumeCart(former) {
  if (!former.cartId) return;
  const answer = await call("GET", `/v1/carts/${former.cartId}`, { token: shop.token });
  if (answer.ok && answer.body.status === "open") adopt(answer.body);
}

export async function addToCart(sku, quantity = 1) {
  if (!shop.cart) return createCart([{ sku, quantity }]);
  return write("POST", () => `/v1/carts/${shop.cart.id}/items`, { sku, quantity });
}

/** A quantity of 0 removes the line. */
export async function setQuantity(lineId, quantity) {
  return write("PATCH", () => `/v1/carts/${shop.cart.id}/items/${lineId}`, { quantity });
}

/** A cart keeps its currency for life: another currency is another cart with the same lines. */
export async function switchCurrency(currency) {
  shop.currency = currency;
  const lines = shop.cart?.line_items ?? [];
  dropCart();
  tell("currency");
  if (lines.length > 0) await createCart(lines.map(({ sku, quantity }) => ({ sku, quantity })));
}

export function dropCart() {
  shop.cart = null;
  remember();
  tell("cart");
}

async function createCart(lines) {
  const body = { currency: shop.currency, line_items: lines };
  const answer = await call("POST", "/v1/carts", { body, token: shop.token, key: newKey() });
  if (answer.ok) {
    keepToken(answer.body);
    adopt(answer.body);
  }
  return answer;
}

async function write(method, path, body) {
  const send = () => call(method, path(), {
    body, token: shop.token, key: method === "POST" ? newKey() : undefined, repeatable: true,
  });
  let answer = await send();
  if (answer.status === 410 && await reopened()) answer = await send();
  if (answer.ok) adopt(answer.body);
  else if (["not_found", "cart_checked_out"].includes(answer.body?.code)) return startOver(method, body, answer);
  return answer;
}

async function reopened() {
  const answer = await call("POST", `/v1/carts/${shop.cart.id}/restore`, { token: shop.token, key: newKey() });
  return answer.ok;
}

/** The cart is gone: what was to be added goes into a new one. */
async function startOver(method, body, answer) {
  dropCart();
  return method === "POST" ? createCart([body]) : answer;
}

function adopt(cart) {
  shop.cart = cart;
  shop.currency = cart.currency;
  remember();
  tell("cart");
}
