// One queue: its states, depth and age over time, the slowest, the oldest, the failing, its daemons. Pure.

import { h } from "./elements.js";
import { ago, bytes, count, counted, duration, moment, precise, quoted, shown } from "./format.js";
import { STATES, WINDOWS, address, command, depth, doing, ended, glance, name, title } from "./overview.js";
import { plot } from "./plot.js";

const SPANS = { "15 min": 900, "1 h": 3600, all: Infinity }; // that the plots show
const PLOTTED = ["ready", "deferred", "held", "dead", "orphan"];
const MANY = 100; // entries that are not to be tried again all at once
const AGE_NAMES = { wait: "waiting for a worker", handler: "in the handler", settle: "settling" };
const PLAIN = /^[^\\]+$/; // a name without a character that is shown as an escape

/** Return the parts of one queue. `view`: {now, history, span, width, onSpan, onFind, redraw}. */
export function details(queue, view) {
  const head = glance([queue], { named: false, more: about(queue, view) });
  if (!queue.states) return [head];
  return [
    head, figures(queue), plots(view), inHand(queue, view.now), waiting(queue),
    failing(queue), attempts(queue), daemons(queue, view.now),
  ];
}

function about(queue, view) {
  return [
    h("p", { class: "path" }, h("code", null, name(queue.path ?? "")), " ", h("span", null, doing(queue))),
    h("form", { role: "search", onsubmit: (event) => view.onFind(event, queue.queue) },
      h("label", { for: "find" }, "Life of an entry"),
      h("input", { id: "find", name: "entry", required: true, autocomplete: "off", spellcheck: "false", placeholder: "name, or its beginning" }),
      h("button", { type: "submit" }, "Show")),
  ];
}

function figures(queue) {
  const states = queue.states ?? {};
  const shownStates = states.arriving?.count ? ["arriving", ...STATES] : STATES;
  return h("section", { key: "figures", "aria-labelledby": "entries" },
    h("h2", { id: "entries" }, "Entries"),
    h("dl", { class: "figures" }, shownStates.map((state) => {
      const found = states[state] ?? {};
      return h("div", { key: state, class: found.count ? state : "zero" },
        h("dt", null, title(state)),
        h("dd", null, h("b", null, (found.counted_all === false ? ">" : "") + count(found.count)), h("small", null, remark(state, found))));
    })),
    backlog(queue),
  );
}

function remark(state, found) {
  const words = [];
  if (typeof found.oldest === "number") words.push(`oldest ${duration(found.oldest)}`);
  if (state === "deferred" && found.due) words.push(`${count(found.due)} due`);
  else if (state === "deferred" && typeof found.next_due === "number") words.push(`next in ${duration(found.next_due)}`);
  return words.join(", ") || "\u00a0";
}

function backlog(queue) {
  const { leaving, arriving: given, done_in: doneIn } = queue.backlog ?? {};
  const arriving = given ?? 0;
  if (!depth(queue, "ready") || typeof leaving !== "number") return null;
  const pace = `${rate(leaving, leaving, arriving)} leave, ${rate(arriving, leaving, arriving)} arrive`;
  const end = typeof doneIn === "number" ? `The backlog is done in ${duration(doneIn)} at this rate` : "The backlog does not shrink";
  return h("p", { class: "note" }, `${end} (${pace}).`);
}

/** Return a number a second in a unit in which the least of `all` that is not 0 is 1 or more. */
function rate(perSecond, ...all) {
  const least = Math.min(...all.filter((each) => each > 0), Infinity);
  if (least >= 1) return `${count(perSecond)}/s`;
  return least * 60 >= 1 ? `${count(perSecond * 60)}/min` : `${count(perSecond * 3600)}/h`;
}

function plots({ history, span, width, onSpan, redraw }) {
  const head = h("h2", { id: "over-time" }, "Over time");
  const choice = h("fieldset", { class: "spans" }, h("legend", { class: "unseen" }, "Span of the plots"),
    Object.keys(SPANS).map((each) => h("label", { key: each },
      h("input", { type: "radio", name: "span", value: each, checked: each === span, onchange: () => onSpan(each) }), each)));
  const body = drawn(history, SPANS[span], { width, redraw });
  return h("section", { key: "plots", class: "plots", "aria-labelledby": "over-time" }, h("div", { class: "row" }, head, choice), body);
}

function drawn(history, span, { width, redraw }) {
  if (history?.error) return h("p", { class: "note" }, `No history: ${shown(history.error)}`);
  if (!history || history.time.length < 2) return h("p", { class: "note" }, "The plots begin with the second sample.");
  const begin = history.time.findIndex((time) => time >= history.time.at(-1) - span);
  const times = history.time.slice(begin);
  const series = PLOTTED
    .map((state) => ({ name: state, values: (history.depth[state] ?? []).slice(begin) }))
    .filter(({ name, values }) => name === "ready" || values.some((value) => value));
  const oldest = [{ name: "ready", values: history.oldest.slice(begin) }];
  return [
    plot({ title: "Depth", unit: "entries by state", times, series, text: count, spans: false, width, redraw }),
    plot({ title: "Age", unit: "of the oldest ready entry", times, series: oldest, text: duration, spans: true, width, redraw }),
  ];
}

/** Return a table with a heading, or that there is nothing. */
function listing(id, text, head, rows, { none, more, scrolls } = {}) {
  const region = scrolls ? { tabindex: "0", role: "group", "aria-labelledby": id } : {}; // no link in it is reached
  return h("section", { key: id, "aria-labelledby": id },
    h("h2", { id }, text),
    rows.length ? h("div", { class: "wide", ...region }, h("table", null,
      h("thead", null, h("tr", null, head.map((word) => h("th", { key: word, scope: "col", class: word.startsWith("#") ? "number" : null }, word.replace("#", ""))))),
      h("tbody", null, rows))) : h("p", { class: "note" }, none),
    more ?? null);
}

function entryLink(queue, entry) {
  return h("th", { scope: "row", class: "entry" }, h("a", { href: address(queue.queue, entry) }, name(entry)));
}

function inHand(queue, now) {
  const entries = [...(queue.in_hand ?? [])].sort((one, other) => (one.since ?? Infinity) - (other.since ?? Infinity));
  return listing("slowest", "In hand, the slowest first", ["entry", "#for", "#attempt", "#process"],
    entries.map((each) => h("tr", { key: `${each.entry} ${each.since}` }, entryLink(queue, each.entry),
      h("td", { class: "number" }, duration(each.since === null ? null : Math.max(0, now - each.since))),
      h("td", { class: "number" }, each.attempt ?? "–"),
      h("td", { class: "number" }, each.process ?? each.daemon))),
    { none: "No entry is in hand." });
}

function waiting(queue) {
  const entries = ["ready", "deferred"].flatMap((state) => (queue.states?.[state]?.first ?? []).map((each) => ({ state, ...each })));
  const list = command(`watcher list ${quoted(queue.path)} --state ready`);
  const some = depth(queue, "ready") || depth(queue, "deferred");
  return listing("oldest", "Waiting, the oldest first", ["entry", "state", "#for"],
    entries.sort((one, other) => other.age - one.age).map((each) => h("tr", { key: `${each.state} ${each.entry}` }, entryLink(queue, each.entry),
      h("td", null, each.state), h("td", { class: "number" }, duration(each.age)))),
    { none: some ? `${counted(depth(queue, "ready") ?? 0, "entry is", "entries are")} ready, ${count(depth(queue, "deferred"))} deferred.` : "No entry waits.", more: some ? list : null });
}

function failing(queue) {
  const { kinds = [], ages = [], read_all: whole = true, read } = queue.failures ?? {};
  const cures = ["deferred", "dead"].filter((state) => kinds.some((each) => each.state === state)).map((state) => {
    const pace = depth(queue, state) > MANY ? " --rate 10/s" : ""; // not all at once onto a host that was down
    return command(`watcher requeue ${quoted(queue.path)} ALL --state ${state}${pace}`);
  });
  return listing("failing", "Failing, by reason", ["reason", "state", "#all", ...ages.map((age) => `#${age}`)],
    kinds.map((each) => h("tr", { key: `${each.state} ${each.reason}` },
      h("th", { scope: "row", class: "reason" }, h("bdi", null, shown(each.reason))),
      h("td", null, each.state), h("td", { class: "number" }, count(each.total)),
      each.ages.map((number, index) => h("td", { key: ages[index], class: number ? "number" : "number zero" }, count(number))))),
    { none: "No entry failed.", scrolls: true,
      more: cures.length ? h("div", null,
        whole ? null : h("p", { class: "note" }, `Of the ${count(read)} notes that were read; there are more.`),
        h("p", { class: "note" }, "When the cause is gone, have them handled again:"), cures) : null });
}

function attempts(queue) {
  const times = (queue.daemons ?? []).flatMap((said) => Object.entries(said.times ?? {}).filter(([, each]) => each.count).map(([stage, each]) => ({ said, stage, ...each })));
  const many = new Set(times.map((each) => each.said.process)).size > 1;
  const rows = ["handled", "deferred", "rejected"].map((word) => h("tr", { key: word },
    h("th", { scope: "row" }, word === "deferred" ? "failed" : word),
    WINDOWS.map((span) => { const number = ended(queue, span)?.[word]; return h("td", { key: span, class: number ? "number" : "number zero" }, count(number)); })));
  return h("div", { key: "attempts", class: "pair" },
    listing("attempts", "Attempts that ended", ["result", ...WINDOWS.map((span) => `#${span}`)], rows, {}),
    listing("times", "How long, in the last hour", ["stage", "#half", "#99 %", "#of"],
      times.map((each) => h("tr", { key: `${each.said.process} ${each.stage}` },
        h("th", { scope: "row" }, (AGE_NAMES[each.stage] ?? shown(each.stage)) + (many ? ` (${each.said.process})` : "")),
        h("td", { class: "number" }, precise(each.p50)), h("td", { class: "number" }, precise(each.p99)), h("td", { class: "number" }, count(each.count)))),
      { none: "No attempt ended." }));
}

function daemons(queue, now) {
  const facts = [];
  for (const said of queue.daemons ?? []) {
    const what = said.command === "run" ? "daemon" : shown(said.command);
    const limit = said.timeout === null ? "no timeout" : `timeout ${duration(said.timeout)}`;
    facts.push([what, `process ${said.process} of user ${shown(said.user)} on ${shown(said.host)}, since ${moment(said.started, now)}; ${counted(said.concurrency, "worker", "workers")}, ${limit}`]);
    facts.push(["sign of life", ago(said.written, now)]);
    if (said.last_success) facts.push(["last success", `${ago(said.last_success, now)}` + (said.in_a_row ? `; ${counted(said.in_a_row, "attempt", "attempts")} in a row failed since` : "")]);
    if (said.last_sweep) facts.push(["last sweep", `${ago(said.last_sweep.at, now)}, took ${precise(said.last_sweep.seconds)}, found ${counted(said.last_sweep.found, "entry", "entries")} that no event had reported`]);
    if (said.overflows) facts.push(["events lost", counted(said.overflows, "time", "times")]);
    if (said.taken) facts.push(["taken by others", `${counted(said.taken, "entry", "entries")}; the last: ${shown(said.last_taken)}`]);
  }
  for (const process of queue.silent_processes ?? []) facts.push(["process", `${process} is at work, and says nothing of itself`]);
  if (!(queue.daemons ?? []).length && queue.last_daemon) facts.push(["last daemon", last(queue.last_daemon, now)]);
  if (queue.paused) facts.push(["paused", shown(queue.paused)]);
  if (queue.disk) facts.push(["disk", `${bytes(queue.disk.free_bytes)} free (${(100 * queue.disk.free_share).toFixed(0)} %)`]);
  if (queue.sampled) facts.push(["looked at", ago(queue.sampled, now)]);
  return h("section", { key: "daemons", "aria-labelledby": "daemons" },
    h("h2", { id: "daemons" }, "Daemon"),
    h("dl", { class: "facts" }, facts.map(([word, text], number) => h("div", { key: number }, h("dt", null, word), h("dd", null, text)))));
}

function last(said, now) {
  const ended = said.stopped === null ? "died; its last sign of life was" : "was stopped";
  return `process ${said.process} of user ${shown(said.user)} ${ended} ${moment(said.stopped ?? said.written, now)}`;
}

/** Return the command that comes next for an entry in a state; null if its name is not known exactly. */
export function commandFor(queue, entry, state) {
  const what = { dead: "requeue", deferred: "requeue", orphan: "requeue", held: "release", claimed: "abort" }[state] ?? "explain";
  return PLAIN.test(entry) ? `watcher ${what} ${quoted(queue)} ${quoted(entry)}` : null;
}
