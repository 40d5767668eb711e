// How long the goods stay reserved, by the server's clock; told aloud when it gets tight.

import { announce } from "../lib/dom.js";
import { serverNow } from "../lib/http.js";
import { shop, underWay } from "./state.js";

const URGENT_S = 60;

/** Keeps every `[data-countdown]` of the page up to date. */
export function installCountdown() {
  let warnedFor = "";
  setInterval(() => {
    const left = secondsLeft();
    for (const element of document.querySelectorAll("[data-countdown]")) show(element, left);
    const urgent = left !== null && left > 0 && left <= URGENT_S;
    if (urgent && warnedFor !== shop.checkout.id) {
      warnedFor = shop.checkout.id;
      announce("The reservation ends in less than a minute.");
    }
  }, 500);
}

/** An element's text: time left, or that nothing runs out while money is on its way. */
export function show(element, left = secondsLeft()) {
  element.textContent = left === null ? "while you pay" : clock(left);
  element.classList.toggle("urgent", left !== null && left <= URGENT_S);
}

function secondsLeft() {
  const expiresAt = underWay() ? shop.checkout.reservation.expires_at : null;
  return expiresAt ? Math.max(0, Math.round((Date.parse(expiresAt) - serverNow()) / 1000)) : null;
}

function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}
