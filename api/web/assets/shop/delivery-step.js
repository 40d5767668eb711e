// How it is shipped: the options of the checkout. A choice is a call, and changes the totals at once.

import { h } from "../lib/dom.js";
import { money } from "../lib/money.js";
import { shop } from "./state.js";

/** The options as radio buttons; `onChoose(id)` is called for a choice. */
export function deliveryChoices(onChoose) {
  const { shipping_options: options, selected_shipping_option: selected, currency } = shop.checkout;
  return h("fieldset", { class: "choices" }, h("legend", { class: "visually-hidden" }, "Ways to ship"),
    options.map((option) => h("label", { class: "choice" },
      h("input", {
        type: "radio", name: "shipping", value: option.id, id: `ship-${option.id}`,
        checked: option.id === selected, onchange: () => onChoose(option.id),
      }),
      h("span", { class: "choice-text" }, h("strong", {}, option.label), h("span", { class: "muted" }, daysOf(option))),
      h("span", { class: "choice-amount" }, option.amount === 0 ? "Free" : money(option.amount, currency)))));
}

function daysOf({ min_days: least, max_days: most }) {
  const days = least === most ? `${most}` : `${least} to ${most}`;
  return `${days} ${most === 1 ? "day" : "days"}`;
}
