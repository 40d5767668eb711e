// The operator's credentials: every call of this page carries them, and a refused one asks for new ones.

import { call } from "../lib/http.js";
import { opsToken } from "../lib/storage.js";

export const session = new EventTarget();

/** A call as operator; `signed-out` is told when the server does not take the token. */
export async function ops(method, path, options = {}) {
  const answer = await call(method, path, { ...options, bearer: opsToken.read() });
  if (answer.status === 401 || answer.status === 403) signOut("The shop does not take this token.");
  return answer;
}

export function signOut(reason = "") {
  opsToken.forget();
  session.dispatchEvent(new CustomEvent("signed-out", { detail: reason }));
}
