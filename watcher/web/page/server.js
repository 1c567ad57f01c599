// Asks the server that sent this page, with the token if it wants one.
//
// Guarantees: a request ends within LONGEST, with an answer or with one of the errors below. The token
// is kept for this tab alone (sessionStorage), and is sent in a header, never in an address.
// Fails: TokenWanted if the server wants another token; Refused with the server's words; else an error
// of the network.

const LONGEST = 10_000; // ms
const TOKEN = "watcher-token";

export class TokenWanted extends Error {}
export class Refused extends Error {}

/** Return what the server answers to a question: its JSON, as an object. */
export async function ask(path, parameters) {
  const query = parameters ? `?${new URLSearchParams(parameters)}` : "";
  const token = sessionStorage.getItem(TOKEN);
  const answer = await fetch(path + query, {
    headers: token ? { Authorization: `Bearer ${token}` } : {},
    cache: "no-store",
    credentials: "omit",
    signal: AbortSignal.timeout(LONGEST),
  });
  if (answer.status === 401) throw new TokenWanted();
  if (!answer.ok) throw new Refused((await answer.text()).trim() || `status ${answer.status}`);
  return answer.json();
}

/** Keep the token for the next questions. */
export function keepToken(token) {
  sessionStorage.setItem(TOKEN, token);
}
