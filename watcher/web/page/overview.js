// All queues: is something wrong, and which command cures it; then one row for each queue. Pure.

import { h } from "./elements.js";
import { count, counted, duration, shown } from "./format.js";

export const STATES = ["ready", "claimed", "deferred", "held", "dead", "orphan"];
export const WINDOWS = ["1m", "5m", "60m"];
const WORDS = { ok: "healthy", warning: "warning", critical: "critical", unknown: "not known" };
const MOST = 12; // findings of all queues that are shown at once, the worst first
const RANK = { critical: 3, unknown: 2, warning: 1, ok: 0 };

/** Return the address of a queue's part of this page, or of one entry's. */
export function address(queue, entry) {
  return `#${new URLSearchParams(entry === undefined ? { queue } : { queue, entry })}`;
}

/** Return the condition of a queue, as one of the keys of WORDS. */
export function condition(queue) {
  return queue.condition in WORDS ? queue.condition : "unknown";
}

/** Return how all queues are, in one sentence. */
export function verdict(queues) {
  if (!queues.length) return "No queue is served.";
  const worst = queues.map(condition).reduce((one, other) => (RANK[one] >= RANK[other] ? one : other));
  const number = queues.filter((queue) => condition(queue) === worst).length;
  if (queues.length === 1) return alone(queues[0], worst);
  if (worst === "ok") return `All ${queues.length} queues are healthy.`;
  const verb = number === 1 ? "is" : "are";
  const what = { critical: `${verb} critical`, warning: number === 1 ? "needs attention" : "need attention", unknown: "cannot be looked at" }[worst];
  return `${number} of ${queues.length} queues ${what}.`;
}

function alone(queue, worst) {
  const words = { ok: "is healthy", warning: "needs attention", critical: "is critical", unknown: "cannot be looked at" };
  const pending = worst === "unknown" && !queue.error && !queue.sampled;
  return `${shown(queue.queue)} ${pending ? "is being looked at for the first time" : words[worst]}.`;
}

/** Return the first thing to see: the verdict, then `more`, then what is wrong and what to type. */
export function glance(queues, { named = true, more = null } = {}) {
  const worst = queues.map(condition).reduce((one, other) => (RANK[one] >= RANK[other] ? one : other), "ok");
  const found = queues
    .flatMap((queue) => problems(queue).map((each) => ({ queue, ...each })))
    .sort((one, other) => RANK[other.severity] - RANK[one.severity]);
  return h("section", { class: "glance", key: `glance ${named ? "" : queues[0]?.queue}` },
    h("h1", { class: worst }, mark(worst), h("span", null, verdict(queues))), more,
    found.length ? h("ul", { class: "findings" }, found.slice(0, MOST).map((each, number) => finding(each, named, number))) : null,
    found.length > MOST ? h("p", { class: "note" }, `and ${counted(found.length - MOST, "thing", "things")} more: see each queue`) : null,
  );
}

/** Return what is wrong with a queue: its findings, or that nothing is known of it. */
export function problems(queue) {
  if (queue.error) return [{ severity: "unknown", what: queue.error, next: "" }];
  return (queue.findings ?? []).map((each) => ({ ...each, severity: each.severity in RANK ? each.severity : "unknown" }));
}

function finding({ queue, severity, what, next }, named, number) {
  return h("li", { key: `${queue.queue} ${number}`, class: severity },
    h("p", null, h("strong", null, WORDS[severity]), " ",
      named ? [h("a", { href: address(queue.queue) }, name(queue.queue)), ": "] : null, h("bdi", null, shown(what))),
    next ? command(next) : null,
  );
}

/** Return a command to be typed, with a button that copies it. */
export function command(text) {
  const words = shown(text).split(" ").flatMap((word) => [" ", h("span", null, word)]).slice(1);
  return h("p", { class: "command" }, h("code", null, h("bdi", null, words)), " ",
    h("button", { type: "button", onclick: (event) => copy(event.currentTarget, text), "aria-label": `Copy: ${shown(text)}`, "data-copied": text === copied }, "Copy"));
}

let copied = null; // the last command, until it is shown anew without the sign

async function copy(button, text) {
  const code = button.parentNode.querySelector("code");
  try {
    await navigator.clipboard.writeText(text);
    copied = text;
    button.setAttribute("data-copied", "");
    setTimeout(() => { copied = null; button.removeAttribute("data-copied"); }, 2000);
  } catch { // no clipboard without HTTPS but on this machine: the text is selected instead
    getSelection().selectAllChildren(code);
  }
}

/** Return a sign of the condition that does not need colours. */
export function mark(severity) {
  const sign = { ok: "✓", warning: "!", critical: "✕", unknown: "?" }[severity];
  return h("span", { class: `mark ${severity}`, "aria-hidden": "true" }, sign);
}

/** Return a name out of a queue; its direction of writing turns nothing around it. */
export function name(text) {
  return h("bdi", null, shown(text));
}

/** Return the table of all queues. */
export function table(queues) {
  const head = ["queue", "condition", ...STATES.map(title), "oldest"];
  return h("section", { key: "queues", "aria-labelledby": "queues" },
    h("h2", { id: "queues" }, "Queues"),
    h("table", { class: "queues", role: "table" },
      h("thead", { role: "rowgroup" },
        h("tr", { role: "row" },
          head.map((word, index) => h("th", { key: word, scope: "col", role: "columnheader", rowspan: 2, class: index > 1 ? "number" : null }, word)),
          ["handled", "failed"].map((word) => h("th", { key: word, scope: "colgroup", role: "columnheader", colspan: 3, class: "group" }, word))),
        h("tr", { role: "row" }, ["handled", "failed"].flatMap((word) => WINDOWS.map((span) =>
          h("th", { key: word + span, scope: "col", role: "columnheader", class: span === "1m" ? "number begins" : "number" },
            h("span", { class: "unseen" }, `${word} in `), span))))),
      h("tbody", { role: "rowgroup" }, queues.map(row))),
  );
}

function row(queue) {
  const worst = condition(queue);
  return h("tr", { key: queue.queue, role: "row", class: worst },
    h("th", { scope: "row", role: "rowheader" }, h("a", { href: address(queue.queue) }, name(queue.queue))),
    h("td", { role: "cell", class: "condition" }, h("span", { class: worst }, mark(worst), WORDS[worst]), h("small", null, doing(queue))),
    STATES.map((state) => number(state, depth(queue, state), title(state))),
    h("td", { role: "cell", key: "oldest", class: "number", "data-label": "oldest" }, oldest(queue)),
    ["handled", "failed"].flatMap((word) => WINDOWS.map((span) =>
      number(word + span, ended(queue, span)?.[word], `${word} ${span}`, span === "1m" ? "begins" : ""))),
  );
}

function number(key, value, label, more = "") {
  return h("td", { key, role: "cell", class: `number ${value ? key : "zero"} ${more}`.trim(), "data-label": label }, count(value));
}

/** Return how a state is called here. */
export function title(state) {
  return state === "claimed" ? "in hand" : state;
}

/** Return the number of entries of a state; "at least" is not told here. */
export function depth(queue, state) {
  return queue.states?.[state]?.count;
}

/** Return the age of the oldest ready entry; if none is ready, of the oldest deferred one. */
function oldest(queue) {
  return duration(queue.states?.ready?.oldest ?? queue.states?.deferred?.oldest);
}

/** Return the attempts of all daemons that ended in a span; undefined if no daemon counts. */
export function ended(queue, span) {
  const windows = (queue.daemons ?? []).map((said) => said.windows?.[span]).filter(Boolean);
  if (!windows.length) return undefined;
  const sum = (word) => windows.reduce((total, each) => total + (each[word] ?? 0), 0);
  return { handled: sum("handled"), failed: sum("failed") + sum("rejected"), deferred: sum("failed"), rejected: sum("rejected") };
}

/** Return what the daemons do about a queue, in a few words. */
export function doing(queue) {
  const running = (queue.daemons ?? []).filter((said) => said.command === "run");
  if (queue.error) return "";
  if (queue.paused) return "paused";
  if (!running.length) return "no daemon";
  if (running.some((said) => "breaker" in (said.troubles ?? {}))) return "held by the breaker";
  const [said] = running;
  if (!said.watch) return "not watched";
  const held = depth(queue, "held");
  return `watching by ${said.watch}` + (held ? `, ${counted(held, "entry", "entries")} held` : "");
}

