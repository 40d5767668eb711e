// What a browser remembers of a visit. A browser that keeps nothing (private mode, full) is no reason to fail.

function access(store, work, otherwise) {
  try {
    return work(store());
  } catch {
    return otherwise;
  }
}

function remembered(store, name) {
  return {
    read: () => access(store, (box) => JSON.parse(box.getItem(name)), null),
    write: (value) => access(store, (box) => box.setItem(name, JSON.stringify(value))),
    forget: () => access(store, (box) => box.removeItem(name)),
  };
}

const local = () => window.localStorage;
const session = () => window.sessionStorage;

/** `{cartId, token, checkoutId, currency}` of the guest. */
export const visit = remembered(local, "lastunit.visit");
/** Buyer and address, to save typing. */
export const details = remembered(local, "lastunit.details");
/** The operator's JWT, gone with the tab. */
export const opsToken = remembered(session, "lastunit.ops_token");

/** Takes a token from the address (`#token=…`), where no server sees it, and removes it from there. */
export function takeTokenFromAddress() {
  const token = new URLSearchParams(window.location.hash.slice(1)).get("token");
  if (!token) return;
  opsToken.write(token);
  window.history.replaceState(null, "", window.location.pathname + window.location.search);
}
