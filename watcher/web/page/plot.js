// Lines over time, as SVG: axes with units, a legend that is not told by colour alone, the values under
// the pointer or of the arrow keys, and the same numbers as a table.
//
// Guarantees: a value that is missing is a gap. The ticks are round numbers of their unit.

import { h } from "./elements.js";
import { clock } from "./format.js";

const HEIGHT = 190;
const MARGIN = { top: 10, right: 10, bottom: 24, left: 56 };
const ENDS = 76; // px for the names at the ends of the lines, where there is room
const WIDE = 520; // px from which there is
const LINE = 15; // px between two of these names
const ROWS = 24; // of the table
const MINUTE = 60, HOUR = 3600, DAY = 86400;
const SPANS = [
  1, 2, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE,
  HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 30 * DAY,
];
const PAGE = 10; // points of one Page key

const chosen = new Map(); // the point that is looked at: title -> its moment

/**
 * Return one plot. `series`: [{name, values}] beside `times`; `text` shows a value; `spans`: the values
 * are seconds; `redraw` is called when another point is looked at.
 */
export function plot({ title, unit, times, series, text, spans, width, redraw }) {
  const here = chosen.has(title) ? nearest(times, chosen.get(title)) : null;
  const index = here ?? times.length - 1;
  const scale = scales(times, series, spans, width);
  const look = (to) => {
    if (to === null) chosen.delete(title);
    else chosen.set(title, times[Math.min(times.length - 1, Math.max(0, to))]);
    redraw();
  };
  const id = `plot-${title.toLowerCase().replaceAll(/\W+/g, "-")}`;
  return h("figure", { class: "plot" },
    h("figcaption", { id }, h("span", { class: "title" }, title), h("span", { class: "unit" }, unit)),
    legend(times, series, index, here !== null, text),
    h("div", {
      class: "canvas", tabindex: "0", role: "slider", "aria-labelledby": id,
      "aria-valuemin": 0, "aria-valuemax": times.length - 1, "aria-valuenow": index,
      "aria-valuetext": spoken(times, series, index, text),
      onkeydown: (event) => onKey(event, index, times.length - 1, look),
      onblur: () => look(null),
      onpointermove: (event) => look(under(event, times, scale)),
      onpointerleave: () => look(null),
    }, drawing(times, series, scale, here, text)),
    table(title, times, series, text),
  );
}

function scales(times, series, spans, width) {
  const right = MARGIN.right + (width >= WIDE ? ENDS : 0);
  const from = times[0], to = Math.max(times.at(-1), from + 1);
  const highest = Math.max(...series.flatMap(({ values }) => values.filter((value) => value !== null)), 0);
  const yStep = spans ? round(highest / 3, SPANS) : decimal(highest / 3);
  const top = Math.max(yStep, Math.ceil(highest / yStep) * yStep);
  const inner = { width: Math.max(60, width - MARGIN.left - right), height: HEIGHT - MARGIN.top - MARGIN.bottom };
  return {
    width, right, from, to, top, yStep,
    xStep: round(((to - from) / inner.width) * 90, SPANS),
    x: (time) => MARGIN.left + ((time - from) / (to - from)) * inner.width,
    y: (value) => MARGIN.top + inner.height * (1 - value / top),
    time: (x) => from + ((x - MARGIN.left) / inner.width) * (to - from),
  };
}

/** Return the smallest step of a list that is at least so large. */
function round(least, steps) {
  return steps.find((step) => step >= least) ?? Math.ceil(least / DAY) * DAY;
}

/** Return the smallest of 1, 2, 5, 10, 20 ... that is at least so large. */
function decimal(least) {
  const power = 10 ** Math.floor(Math.log10(Math.max(least, 1)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 1;
}

function drawing(times, series, scale, here, text) {
  return h("svg", { width: scale.width, height: HEIGHT, viewBox: `0 0 ${scale.width} ${HEIGHT}`, "aria-hidden": "true" },
    yAxis(scale, text), xAxis(scale),
    series.map((each) => h("path", { key: each.name, class: `line ${each.name}`, d: line(times, each.values, scale) })),
    scale.right > MARGIN.right ? ends(series, scale) : null,
    here === null ? null : cursor(times, series, scale, here),
  );
}

function yAxis(scale, text) {
  const ticks = [];
  for (let value = 0; value <= scale.top; value += scale.yStep) ticks.push(value);
  return ticks.map((value) => h("g", { key: `y${value}` },
    h("line", { class: value ? "grid" : "axis", x1: MARGIN.left, x2: scale.width - scale.right, y1: scale.y(value), y2: scale.y(value) }),
    h("text", { class: "tick", x: MARGIN.left - 8, y: scale.y(value) + 4, "text-anchor": "end" }, text(value)),
  ));
}

function xAxis(scale) {
  const zone = new Date(scale.from * 1000).getTimezoneOffset() * MINUTE;
  const ticks = [];
  const first = Math.ceil((scale.from - zone) / scale.xStep) * scale.xStep + zone;
  for (let time = first; time <= scale.to; time += scale.xStep) ticks.push(time);
  return ticks.map((time) => h("g", { key: `x${time}` },
    h("line", { class: "axis", x1: scale.x(time), x2: scale.x(time), y1: scale.y(0), y2: scale.y(0) + 4 }),
    h("text", { class: "tick", x: scale.x(time), y: HEIGHT - 6, "text-anchor": "middle" }, clock(time, scale.xStep < MINUTE)),
  ));
}

function line(times, values, scale) {
  let path = "", joined = false;
  values.forEach((value, index) => {
    if (value === null) { joined = false; return; }
    path += `${joined ? "L" : "M"}${scale.x(times[index]).toFixed(1)} ${scale.y(value).toFixed(1)}`;
    if (!joined && (values[index + 1] ?? null) === null) path += "h0.1"; // a point alone is seen, too
    joined = true;
  });
  return path;
}

/** Return the names at the ends of the lines, none over another. */
function ends(series, scale) {
  const places = series
    .filter(({ values }) => (values.at(-1) ?? null) !== null)
    .map(({ name, values }) => ({ name, y: scale.y(values.at(-1)) + 4 }))
    .sort((one, other) => other.y - one.y);
  let lowest = Infinity;
  for (const place of places) lowest = place.y = Math.min(place.y, lowest - LINE);
  return places.map(({ name, y }) => h("text", { key: `end-${name}`, class: `end ${name}`, x: scale.width - scale.right + 6, y }, name));
}

function cursor(times, series, scale, here) {
  const x = scale.x(times[here]);
  return h("g", { key: "cursor", class: "cursor" },
    h("line", { x1: x, x2: x, y1: MARGIN.top, y2: scale.y(0) }),
    series.filter(({ values }) => values[here] !== null).map(({ name, values }) =>
      h("circle", { key: name, class: name, cx: x, cy: scale.y(values[here]), r: 3.5 })),
  );
}

function legend(times, series, index, looked, text) {
  return h("p", { class: "legend", "aria-hidden": "true" },
    series.map(({ name, values }) => h("span", { key: name },
      h("svg", { width: 26, height: 10 }, h("path", { class: `line ${name}`, d: "M1 5H25" })),
      ` ${name} `, h("b", null, text(values[index] ?? null)))),
    h("span", { class: "at" }, looked ? `at ${clock(times[index], true)}` : "now"),
  );
}

function spoken(times, series, index, text) {
  const values = series.map(({ name, values }) => `${name} ${text(values[index] ?? null)}`);
  return `${clock(times[index], true)}: ${values.join(", ")}`;
}

function table(title, times, series, text) {
  const every = Math.max(1, Math.ceil(times.length / ROWS));
  const rows = [];
  for (let index = times.length - 1; index >= 0; index -= every) rows.push(index);
  return h("details", null,
    h("summary", null, "The same as a table"),
    h("table", null,
      h("caption", { class: "unseen" }, title),
      h("thead", null, h("tr", null, h("th", { scope: "col" }, "time"),
        series.map(({ name }) => h("th", { key: name, scope: "col", class: "number" }, name)))),
      h("tbody", null, rows.map((index) => h("tr", { key: times[index] },
        h("th", { scope: "row" }, clock(times[index], true)),
        series.map(({ name, values }) => h("td", { key: name, class: "number" }, text(values[index] ?? null))))))),
  );
}

function onKey(event, index, last, look) {
  const to = {
    ArrowLeft: index - 1, ArrowRight: index + 1, ArrowDown: index - 1, ArrowUp: index + 1,
    PageDown: index - PAGE, PageUp: index + PAGE, Home: 0, End: last, Escape: null,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  look(to);
}

function under(event, times, scale) {
  const box = event.currentTarget.getBoundingClientRect();
  return nearest(times, scale.time(event.clientX - box.left));
}

function nearest(times, time) {
  let best = 0;
  times.forEach((each, index) => { if (Math.abs(each - time) < Math.abs(times[best] - time)) best = index; });
  return best;
}
