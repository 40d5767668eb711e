// Elements without a framework: h() makes them, render() swaps them, announce() tells screen readers.

/**
 * An element. `props`: attributes; a function is listened to by its name (`onclick`), `class` may be a list,
 * false, null and undefined leave the attribute out. Children: nodes, text, lists; empty ones are skipped.
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "class" && Array.isArray(value)) element.className = value.filter(Boolean).join(" ");
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

export const byId = (id) => document.getElementById(id);

/** Replaces what is in `root`; the element that had the focus keeps it, found again by id or `data-focus`. */
export function render(root, ...children) {
  const focused = root.contains(document.activeElement) ? document.activeElement : null;
  root.replaceChildren(...present(children));
  if (!focused) return;
  const again = focused.id
    ? root.querySelector(`#${CSS.escape(focused.id)}`)
    : focused.dataset.focus && root.querySelector(`[data-focus="${CSS.escape(focused.dataset.focus)}"]`);
  again?.focus();
}

/** `draw(value)`, unless `value` is what was drawn last: what is being read or copied stays as it is. */
export function whenNew(draw) {
  let drawn = "";
  return (value) => {
    const text = JSON.stringify(value);
    if (text === drawn) return;
    drawn = text;
    draw(value);
  };
}

/** Says a sentence to screen readers, inside the open dialog if there is one: the page behind it is inert. */
export function announce(sentence) {
  const dialogs = document.querySelectorAll("dialog[open] [data-live]");
  const region = dialogs[dialogs.length - 1] ?? byId("live");
  // Emptied first, so that the same sentence twice is said twice.
  region.textContent = "";
  requestAnimationFrame(() => { region.textContent = sentence; });
}

/** Runs `work` with the button marked as busy; a second press meanwhile does nothing. */
export async function busy(button, work) {
  // Not disabled, which would take the focus away from whoever pressed it.
  if (button.getAttribute("aria-busy") === "true") return undefined;
  button.setAttribute("aria-busy", "true");
  try {
    return await work();
  } finally {
    button.removeAttribute("aria-busy");
  }
}

export function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
