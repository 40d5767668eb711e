// The demo shop: loads what is for sale, takes up an earlier visit, and shows the page that the address names.

import { announce, byId, h, render } from "../lib/dom.js";
import { takeTokenFromAddress, visit } from "../lib/storage.js";
import { installCallsPanel } from "./calls-panel.js";
import { installCartDrawer, openCart } from "./cart-drawer.js";
import { resumeCart, switchCurrency } from "./cart.js";
import { showCatalogue } from "./catalogue.js";
import { installCheckoutView, openCheckoutView } from "./checkout-view.js";
import { cancelCheckout, resumeCheckout } from "./checkout.js";
import { installCountdown, show as showTime } from "./countdown.js";
import { openExpressView } from "./express-view.js";
import { openOrderView } from "./order-view.js";
import { loadShop, on, refreshStock, shop, underWay } from "./state.js";

const STOCK_EVERY_MS = 4000;

const PAGES = [
  { view: "checkout-view", at: /^#\/checkout$/, title: "Checkout", open: openCheckoutView },
  { view: "express-view", at: /^#\/buy\/(.+)$/, title: "Buy now", open: openExpressView },
  { view: "order-view", at: /^#\/order\/(\w+)$/, title: "Order", open: openOrderView },
  { view: "shop-view", at: /^/, title: "Flowers and things", open: () => refreshStock() },
];

async function start() {
  takeTokenFromAddress();
  installCallsPanel();
  installCartDrawer();
  installCheckoutView();
  installCountdown();
  if (!(await loadShop())) byId("unreachable").hidden = false;
  await resume(visit.read());
  showCatalogue({ onAdded: openCart });
  showLinks();
  installCurrency();
  on(["checkout"], showReservation);
  showReservation();
  window.addEventListener("hashchange", () => navigate(true));
  navigate(false);
  keepStockFresh();
}

/** Takes up an earlier visit. It was read before: what is done here is remembered, too. */
async function resume(former) {
  if (!former) return;
  shop.token = former.token;
  shop.currency = former.currency;
  await resumeCart(former);
  await resumeCheckout(former);
}

function navigate(byUser) {
  const { hash } = window.location;
  const page = PAGES.find(({ at }) => at.test(hash));
  for (const { view } of PAGES) {
    byId(view).hidden = view !== page.view;
    if (byId(view).hidden) byId(view).querySelectorAll(".panel, .summary").forEach((part) => render(part));
  }
  document.title = `${page.title} · Petal & Parcel`;
  page.open(decodeURIComponent(page.at.exec(hash)[1] ?? ""));
  showReservation();
  if (!byUser) return;
  window.scrollTo({ top: 0 });
  announce(page.title);
  byId(page.view).querySelector("h1")?.focus();
}

/** Away from the checkout a bar reminds of what is reserved. */
function showReservation() {
  const away = !/^#\/(checkout|order)/.test(window.location.hash);
  byId("reservation-bar").hidden = !(underWay() && away);
  showTime(byId("reservation-time"));
}

function showLinks() {
  const { dashboard_url: dashboard } = shop.config;
  if (dashboard) byId("links").append(h("a", { href: dashboard }, "Ray dashboard"));
  byId("release").addEventListener("click", cancelCheckout);
}

function installCurrency() {
  const select = byId("currency");
  const currencies = Object.keys(shop.products[0]?.prices ?? { USD: 0 });
  render(select, currencies.map((code) => h("option", { value: code }, code)));
  select.value = shop.currency;
  select.addEventListener("change", () => switchCurrency(select.value));
  on(["cart", "currency"], () => { select.value = shop.currency; });
}

function keepStockFresh() {
  setInterval(() => {
    if (!document.hidden && !byId("shop-view").hidden) refreshStock();
  }, STOCK_EVERY_MS);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refreshStock(); });
}

start();
