// Who buys and where it goes: the form, and the API's messages at the fields they speak of.

import { announce, h } from "../lib/dom.js";
import { details } from "../lib/storage.js";
import { countries, labelsOf } from "./countries.js";
import { SAMPLES } from "./samples.js";

const FIELDS = [
  { name: "email", path: "$.buyer.email", label: "E-mail", type: "email", autocomplete: "email", wide: true },
  { name: "name", path: "$.buyer.name", label: "Full name", autocomplete: "name", wide: true },
  { name: "country", label: "Country", autocomplete: "country", wide: true },
  { name: "line1", label: "Street and number", autocomplete: "address-line1", wide: true },
  { name: "line2", label: "Flat, floor, company", autocomplete: "address-line2", optional: true, wide: true },
  { name: "city", label: "City", autocomplete: "address-level2" },
  { name: "region", label: "Region", autocomplete: "address-level1" },
  { name: "postal_code", label: "Postal code", autocomplete: "postal-code" },
];
const ALIASES = { "$.shipping_address.name": "name", "$.shipping_address": "line1", "$.buyer": "email" };

/** The form: `element`, `read()` → `{buyer, shipping_address}`, `show(findings)` → whether any was for a field. */
export function detailsForm(id) {
  const controls = Object.fromEntries(FIELDS.map((field) => [field.name, controlOf(field, id)]));
  const element = h("div", { class: "fields" }, samples(controls), FIELDS.map((field) => controls[field.name].wrapper));
  controls.country.input.addEventListener("change", () => relabel(controls));
  fill(controls, details.read() ?? { country: "US" });
  return { element, read: () => read(controls), show: (findings) => show(controls, findings) };
}

function controlOf(field, prefix) {
  const id = `${prefix}-${field.name}`;
  const shared = { id, name: field.name, autocomplete: field.autocomplete, "aria-describedby": `${id}-error` };
  const input = field.name === "country"
    ? h("select", shared, countries().map(([code, name]) => h("option", { value: code }, name)))
    : h("input", { ...shared, type: field.type ?? "text", maxlength: 200, spellcheck: "false" });
  const label = h("span", {}, field.label);
  const error = h("p", { class: "field-error", id: `${id}-error` });
  const hint = field.optional && h("span", { class: "muted" }, " optional");
  const wrapper = h("div", { class: ["field", field.wide && "wide"] },
    h("label", { for: id }, label, hint), input, error);
  input.addEventListener("input", () => mark({ input, error }, ""));
  return { input, label, error, wrapper };
}

function samples(controls) {
  return h("p", { class: "samples wide" }, h("span", { class: "muted" }, "Fill in for me: "),
    SAMPLES.map((sample) => h("button", {
      type: "button", class: "link", onclick: () => fillIn(controls, sample),
    }, sample.label)));
}

function fillIn(controls, sample) {
  fill(controls, sample.values);
  show(controls, []);
  announce(`Filled in: ${sample.label}`);
}

function fill(controls, values) {
  for (const [name, { input }] of Object.entries(controls)) input.value = values[name] ?? "";
  relabel(controls);
}

function relabel(controls) {
  const labels = labelsOf(controls.country.input.value);
  controls.region.label.textContent = labels.region;
  controls.postal_code.label.textContent = labels.postal_code;
}

/** The fields as a merge patch: what is empty is null. */
function read(controls) {
  const values = Object.fromEntries(
    Object.entries(controls).map(([name, { input }]) => [name, input.value.trim() || null]),
  );
  details.write(values);
  const { email, ...address } = values;
  return { buyer: { email, name: values.name }, shipping_address: address };
}

function show(controls, findings) {
  const texts = new Map(findings.map(({ path, text }) => [fieldOf(path), text]));
  let first = null;
  for (const [name, control] of Object.entries(controls)) {
    mark(control, texts.get(name) ?? "");
    if (texts.has(name)) first ??= control;
  }
  first?.input.focus();
  return first !== null;
}

const fieldOf = (path) => ALIASES[path]
  ?? FIELDS.find((field) => path === (field.path ?? `$.shipping_address.${field.name}`))?.name;

function mark({ input, error }, text) {
  error.textContent = text;
  if (text) input.setAttribute("aria-invalid", "true");
  else input.removeAttribute("aria-invalid");
}

/** What a checkout's messages or a problem's errors say, as `{path, text}`. */
export const findingsOf = (entries) => (entries ?? [])
  .filter((entry) => entry.type === undefined || entry.type === "error")
  .map((entry) => ({ path: entry.path, text: entry.content ?? entry.message }));
