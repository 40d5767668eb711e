// The shelf: a card for each product, its availability kept up to date.

import { announce, busy, byId, h, render } from "../lib/dom.js";
import { reasonOf } from "../lib/http.js";
import { money } from "../lib/money.js";
import { addToCart } from "./cart.js";
import { on, pictureOf, shop } from "./state.js";

const FEW = 10;

const cards = new Map();
let category = "All";

export function showCatalogue({ onAdded }) {
  renderFilter();
  for (const product of shop.products) cards.set(product.sku, cardOf(product, onAdded));
  byId("shelf").append(...[...cards.values()].map((card) => card.element));
  on(["stock", "currency"], refresh);
  refresh();
}

function renderFilter() {
  const categories = ["All", ...new Set(shop.products.map((product) => product.category))];
  byId("filter").append(...categories.map((name) => h("label", { class: "chip" },
    h("input", {
      type: "radio", name: "category", value: name, checked: name === category, onchange: () => choose(name),
    }),
    h("span", {}, name))));
}

function choose(name) {
  category = name;
  const shown = shop.products.filter(isShown);
  for (const [sku, card] of cards) card.element.hidden = !shown.some((product) => product.sku === sku);
  announce(`${shown.length} products`);
}

const isShown = (product) => category === "All" || product.category === category;

function cardOf(product, onAdded) {
  const price = h("p", { class: "price" });
  const level = h("p", { class: "level" });
  const title = h("h2", { id: `title-${product.sku}` }, product.title);
  const add = h("button", { class: "button", type: "button", "aria-describedby": title.id }, "Add to cart");
  add.addEventListener("click", () => busy(add, () => addOne(product, onAdded)));
  const href = `#/buy/${encodeURIComponent(product.sku)}`;
  const buy = h("a", { class: "button ghost", href, "aria-describedby": title.id }, "Buy now");
  const element = h("li", { class: "card", "data-sku": product.sku },
    h("img", { src: pictureOf(product), alt: "", width: 320, height: 320, loading: "lazy", decoding: "async" }),
    h("div", { class: "card-text" }, title, h("p", { class: "description" }, product.description)),
    h("div", { class: "card-facts" }, price, level),
    h("div", { class: "card-actions" }, add, buy));
  return { element, product, price, level, add, buy };
}

async function addOne(product, onAdded) {
  const answer = await addToCart(product.sku);
  if (answer.ok) {
    announce(`${product.title} is in the cart.`);
    onAdded();
  } else {
    announce(reasonOf(answer));
    complain(product.sku, reasonOf(answer));
  }
}

function complain(sku, sentence) {
  const { level } = cards.get(sku);
  render(level, h("span", { class: "sold-out" }, sentence));
}

function refresh() {
  for (const card of cards.values()) {
    const available = shop.stock.get(card.product.sku);
    const amount = card.product.prices[shop.currency];
    render(card.price, amount === undefined ? "–" : money(amount, shop.currency));
    render(card.level, levelOf(available));
    card.element.classList.toggle("is-sold-out", available === 0);
    if (card.add.getAttribute("aria-busy") !== "true") card.add.disabled = available === 0;
    card.buy.hidden = available === 0;
  }
}

function levelOf(available) {
  if (available === undefined) return "";
  if (available === 0) return h("span", { class: "sold-out" }, "Sold out");
  if (available === 1) return h("strong", { class: "scarce" }, "The last one");
  if (available <= FEW) return h("span", { class: "scarce" }, `Only ${available} left`);
  return h("span", { class: "in-stock" }, `${available.toLocaleString()} in stock`);
}
