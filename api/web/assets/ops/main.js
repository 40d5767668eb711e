// The operators' page: asks for a token, then keeps the board up to date.

import { busy, byId, h } from "../lib/dom.js";
import { call } from "../lib/http.js";
import { opsToken, takeTokenFromAddress } from "../lib/storage.js";
import { check, installAudit, refreshReady } from "./audit.js";
import { installOrders, refreshOrders } from "./orders.js";
import { installSandbox, refreshLedger, showSandbox } from "./sandbox.js";
import { ops, session, signOut } from "./session.js";
import { installStock, refreshStock } from "./stock.js";

const REFRESH_MS = 3000;

let sandboxOn = false;

async function start() {
  takeTokenFromAddress();
  installAudit();
  installOrders();
  installSandbox();
  installStock();
  byId("gate-form").addEventListener("submit", enter);
  byId("sign-out").addEventListener("click", () => signOut());
  session.addEventListener("signed-out", (event) => showGate(event.detail));
  if (opsToken.read()) await open();
  else showGate("");
  showLinks();
  keepFresh();
}

function enter(event) {
  event.preventDefault();
  opsToken.write(byId("token").value.trim());
  busy(byId("gate-form").querySelector("button"), open);
}

function showGate(reason) {
  byId("board").hidden = true;
  byId("sign-out").hidden = true;
  byId("gate").hidden = false;
  byId("gate-error").textContent = reason;
  byId("token").value = "";
  byId("token").focus();
}

async function open() {
  const answer = await ops("GET", "/v1/ops/orders?limit=1", { quiet: true });
  if (answer.status === 401 || answer.status === 403) return;
  byId("gate").hidden = true;
  byId("board").hidden = false;
  byId("sign-out").hidden = false;
  sandboxOn = await showSandbox();
  await Promise.all([refreshReady(), check(), refreshBoard()]);
}

async function refreshBoard() {
  await Promise.all([refreshOrders(), sandboxOn && refreshLedger(), refreshStock()]);
}

async function showLinks() {
  const config = await call("GET", "/demo/config.json", { quiet: true });
  if (config.body?.demo) byId("links").prepend(h("a", { href: "/" }, "Shop"));
  if (config.body?.dashboard_url) byId("links").append(h("a", { href: config.body.dashboard_url }, "Ray dashboard"));
}

/** One round at a time: a slow server is not asked faster than it answers. */
function keepFresh() {
  setTimeout(async () => {
    if (!document.hidden) await refreshReady();
    if (!document.hidden && !byId("board").hidden) await refreshBoard();
    keepFresh();
  }, REFRESH_MS);
}

start();
