// What the page knows: goods, stock, the guest's cart and checkout. Changes are told by name on `changed`.

import { call } from "../lib/http.js";
import { visit } from "../lib/storage.js";

const changed = new EventTarget();

export const shop = {
  config: { mode: "", dashboard_url: "" },
  products: [],
  currency: "USD",
  stock: new Map(),
  cart: null,
  checkout: null,
  token: null,
};

export function tell(name) {
  changed.dispatchEvent(new Event(name));
}

export function on(names, listener) {
  for (const name of names) changed.addEventListener(name, listener);
}

/** The product of a SKU; goods of other catalogues have a title at most. */
export const productOf = (sku) => shop.products.find((product) => product.sku === sku);

export const pictureOf = (product) => `/assets/pictures/${product.picture}.svg`;

/** Whether a checkout is under way, with stock reserved for it. */
export const underWay = () => shop.checkout !== null
  && !["completed", "canceled"].includes(shop.checkout.status);

/** Remembers in the browser whose cart and checkout these are. */
export function remember() {
  visit.write({
    token: shop.token,
    cartId: shop.cart?.id ?? null,
    checkoutId: shop.checkout?.id ?? null,
    currency: shop.currency,
  });
}

/** Keeps the secret of an answer, there once for a guest who came without one. */
export function keepToken(body) {
  if (body?.token) shop.token = body.token;
}

export async function loadShop() {
  const [config, products] = await Promise.all([
    call("GET", "/demo/config.json", { quiet: true }),
    call("GET", "/demo/products.json", { quiet: true }),
  ]);
  if (config.ok) shop.config = config.body;
  if (products.ok) shop.products = products.body.products;
  return config.ok && products.ok;
}

/** Asks for the stock of all goods; the catalogue shows what it finds. */
export async function refreshStock() {
  if (shop.products.length === 0) return;
  const query = shop.products.map((product) => `sku=${encodeURIComponent(product.sku)}`).join("&");
  const answer = await call("GET", `/v1/stock?${query}`, { quiet: true });
  if (!answer.ok) return;
  shop.stock = new Map(answer.body.data.map((level) => [level.sku, level.available]));
  tell("stock");
}
