// Amounts for people. The API's amounts are integers of minor units; nothing is ever calculated with these texts.

const formats = new Map();

function formatOf(currency) {
  if (!formats.has(currency)) {
    const options = { style: "currency", currency, currencyDisplay: "narrowSymbol" };
    formats.set(currency, new Intl.NumberFormat(undefined, options));
  }
  return formats.get(currency);
}

/** `money(1999, "USD")` is $19.99, `money(1999, "JPY")` is ¥1,999. */
export function money(amountMinor, currency) {
  const format = formatOf(currency);
  return format.format(amountMinor / 10 ** format.resolvedOptions().maximumFractionDigits);
}

/** The amount of one entry of `totals`; 0 when there is none. */
export const totalOf = (resource, type = "total") =>
  resource.totals.find((entry) => entry.type === type)?.amount ?? 0;

const LABELS = { subtotal: "Subtotal", discount: "Discount", fulfillment: "Delivery", tax: "Tax", total: "Total" };

/** What an entry of `totals` is called. */
export const labelOf = (entry) => (entry.included ? "Includes tax of" : LABELS[entry.type] ?? entry.type);
