// The life of one entry: every step with its time, its delay and its result. Pure.

import { h } from "./elements.js";
import { counted, duration, moment, precise, shown } from "./format.js";
import { address, command, name } from "./overview.js";
import { commandFor } from "./queue.js";

const RESULTS = { finish: "handled", defer: "failed", reject: "failed for good" };
const BAD = { defer: "warning", reject: "critical", finish: "ok", vanish: "critical" };

/** Return the life of an entry; `life` is the answer of the server, or {error}. */
export function lifeOf(queue, entry, life, now) {
  return h("section", { key: `entry ${entry}`, class: "life", "aria-labelledby": "entry" },
    h("p", { class: "back" }, h("a", { href: address(queue.queue) }, "← ", name(queue.queue))),
    h("h1", { id: "entry" }, name(life?.entry ?? entry)),
    life === null ? h("p", { class: "note" }, "Reading the journal …") : null,
    life?.error ? h("p", { class: "note" }, h("bdi", null, shown(life.error))) : null,
    (life?.lives ?? []).map((each, number) => oneLife(each, number, life, queue, now)),
    (life?.taken ?? []).map((time) => h("p", { key: `taken ${time}`, class: "critical" }, `${moment(time, now)}: a worker came for a file of this name, and another program had taken it.`)),
    life?.truncated ? h("p", { class: "note" }, "Only the newest steps are shown; watcher history shows all of them.") : null,
    (life?.remarks ?? []).map((remark, number) => h("p", { key: `remark ${number}`, class: "note" }, shown(remark))),
  );
}

function oneLife(life, number, found, queue, now) {
  const many = found.lives.length > 1;
  const next = life.state ? commandFor(queue.path, found.entry, life.state) : null;
  return h("div", { key: `life ${number}` },
    many ? h("h2", null, `${number + 1} of ${found.lives.length} entries of this name`) : null,
    h("p", { class: "result" }, h("bdi", null, shown(life.result))),
    bar(life, now),
    h("ol", { class: "steps" }, life.committed === null ? null : step("committed", { time: life.committed }, null, now),
      life.steps.map((each, index) => step(index, each, life.steps[index - 1]?.time ?? life.committed, now)),
      life.state ? h("li", { key: "now", class: "now" }, h("span", { class: "when" }, "now"), h("span", { class: "delay" }, since(life, now)), h("span", null, life.state)) : null),
    next ? command(next) : null,
  );
}

function step(key, each, before, now) {
  const after = typeof before === "number" ? `+${precise(Math.max(0, each.time - before))}` : "";
  return h("li", { key, class: BAD[each.move] ?? null },
    h("span", { class: "when" }, h("time", { datetime: new Date(each.time * 1000).toISOString() }, moment(each.time, now))),
    h("span", { class: "delay" }, after),
    h("div", null, key === "committed" ? "committed" : [
      h("b", null, what(each)),
      each.took === null ? null : h("span", null, ` waited ${precise(each.waited)}, took ${precise(each.took)}`),
      each.why && RESULTS[each.move] ? h("p", null, h("bdi", null, shown(each.why))) : null,
      each.next_in === null ? null : h("p", null, `next attempt in ${duration(each.next_in)}`),
      h("p", { class: "note" }, `process ${each.process}${each.host ? ` on ${shown(each.host)}` : ""}`)]),
  );
}

function what(each) {
  const word = RESULTS[each.move];
  if (!word) return h("bdi", null, shown(each.text)); // a move of an operator or a sweep: by which, and why
  return each.attempt === null ? word : `attempt ${each.attempt}: ${word}`;
}

function since(life, now) {
  const last = life.steps.at(-1)?.time ?? life.committed;
  return typeof last === "number" ? `+${duration(Math.max(0, now - last))}` : "";
}

/** Return a bar of the whole life: where its time went, waiting or in a handler. */
function bar(life, now) {
  const begin = life.committed ?? life.steps[0]?.time;
  const end = life.state ? now : life.steps.at(-1)?.time;
  if (typeof begin !== "number" || typeof end !== "number" || end - begin < 0.001) return null;
  const place = (time) => Math.min(1000, Math.max(0, ((time - begin) / (end - begin)) * 1000));
  const tries = life.steps.filter((each) => typeof each.took === "number");
  const worked = tries.reduce((sum, each) => sum + each.took, 0);
  const text = `${duration(end - begin)} in all: ${precise(worked)} in the handler, in ${counted(tries.length, "attempt", "attempts")}; the rest waiting`;
  return h("div", { class: "bar" },
    h("svg", { viewBox: "0 0 1000 12", preserveAspectRatio: "none", height: 12, "aria-hidden": "true" },
      h("rect", { class: "waiting", x: 0, y: 5, width: 1000, height: 2 }),
      tries.map((each, number) => h("rect", { key: number, class: BAD[each.move] ?? "ok", x: Math.min(place(each.time - each.took), 996), y: 0, width: Math.max(4, place(each.time) - place(each.time - each.took)), height: 12 }))),
    h("p", { class: "note" }, text));
}
