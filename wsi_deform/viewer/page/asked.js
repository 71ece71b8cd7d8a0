// Small helpers that every part of the page uses.

export const byId = (id) => document.getElementById(id);

/** The address of something of a slide; addresses are relative, so that the secret stays in front of them. */
export const address = (id, rest) => `slide/${encodeURIComponent(id)}/${rest}`;

const GONE = "wsi-deform view does not answer: it was ended, or the connection to it was.";

/** What the server says, or an error in its words. */
export async function asked(place) {
  let answer;
  try {
    answer = await fetch(place);
  } catch {
    throw new Error(GONE);
  }
  const isJson = answer.headers.get("Content-Type")?.startsWith("application/json");
  if (answer.ok) return isJson ? answer.json() : {};
  const said = isJson ? (await answer.json()).error : await answer.text();
  throw new Error(said || `the server answered ${answer.status}`);
}

/** An element with a text; texts are never taken for HTML. */
export function made(name, text) {
  const element = document.createElement(name);
  element.textContent = text;
  return element;
}
