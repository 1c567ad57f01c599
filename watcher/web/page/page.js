// The page: asks the server again and again, and shows what the address names.
//
//     #                          all queues; the queue itself if there is one only
//     #queue=NAME                one queue
//     #queue=NAME&entry=NAME     the life of one entry
//
// Guarantees: nothing is asked while the page is hidden. One question of a kind at a time. An answer that
// does not come is said, with the age of what is shown, which turns grey. A screen reader hears a change
// of the condition, and no numbers.

import { h, patch } from "./elements.js";
import { lifeOf } from "./entry.js";
import { clock, duration, quoted, shown } from "./format.js";
import { command, glance, problems, table, verdict, condition } from "./overview.js";
import { details } from "./queue.js";
import { Refused, TokenWanted, ask, keepToken } from "./server.js";

const STATUS_EVERY = 2_000, HISTORY_EVERY = 10_000; // ms
const COLOURS = "watcher-colours";
const main = document.getElementById("main");

const seen = { status: null, at: 0, missing: "", token: false, history: {}, lives: {}, span: "1 h", announced: "" };

// -- asking ---------------------------------------------------------------------------------------

const asking = new Set();

/** Ask one question, unless the last one of its kind is still open; then draw. */
async function once(kind, question) {
  if (asking.has(kind)) return;
  asking.add(kind);
  try {
    await question();
  } finally {
    asking.delete(kind);
    draw();
  }
}

const askStatus = () => once("status", async () => {
  try {
    const status = await ask("status.json");
    Object.assign(seen, { status, at: Date.now(), missing: "", token: false });
  } catch (error) {
    seen.token = error instanceof TokenWanted;
    seen.missing = error instanceof Refused ? error.message : "no answer";
  }
});

const askHistory = () => {
  const queue = chosen()?.queue;
  if (queue !== undefined) once("history", async () => { seen.history = { queue, ...(await answer("history.json", { queue })) }; });
};

const askLife = () => {
  const { queue, entry } = place();
  if (entry === null) return;
  const before = seen.lives.queue === queue && seen.lives.entry === entry ? seen.lives.found : null;
  if (before?.lives && before.lives.every((life) => life.state === null)) return; // it has ended
  once("life", async () => {
    const found = await answer("entry.json", { queue, entry });
    if (!found.error || !before?.lives) seen.lives = { queue, entry, found };
  });
};

/** Return an answer, or {error} with what to say in its place. */
async function answer(path, parameters) {
  try {
    return await ask(path, parameters);
  } catch (error) {
    return { error: error instanceof Refused ? error.message : "the server does not answer" };
  }
}

let timers = [];

function start() {
  stop();
  askStatus().then(askHistory);
  askLife();
  timers = [setInterval(askStatus, STATUS_EVERY), setInterval(askHistory, HISTORY_EVERY), setInterval(askLife, HISTORY_EVERY)];
}

function stop() {
  timers.forEach(clearInterval);
}

// -- the address ----------------------------------------------------------------------------------

function place() {
  const named = new URLSearchParams(location.hash.slice(1));
  return { queue: named.get("queue"), entry: named.get("entry") };
}

/** Return the queue that the address names, or the only one. */
function chosen() {
  const queues = seen.status?.queues ?? [];
  const { queue } = place();
  if (queue === null) return queues.length === 1 ? queues[0] : undefined;
  return queues.find((each) => each.queue === queue);
}

function onFind(event, queue) {
  event.preventDefault();
  const entry = new FormData(event.currentTarget).get("entry").trim();
  if (entry) location.hash = new URLSearchParams({ queue, entry });
}

function onMove() {
  draw();
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
  askHistory();
  askLife();
}

// -- showing --------------------------------------------------------------------------------------

function draw() {
  const gone = seen.missing !== "" && !seen.token;
  document.body.classList.toggle("gone", gone && seen.status !== null);
  if (seen.token) patch(main, [tokenForm()]);
  else if (seen.status) patch(main, shownParts());
  else patch(main, [h("p", { class: "note" }, gone ? "" : "Asking the daemon …")]);
  drawSilence(gone);
  drawHeader();
  announce();
}

function shownParts() {
  const { queues, time } = seen.status;
  const { queue: wanted, entry } = place();
  const queue = chosen();
  if (wanted !== null && !queue) return [glance(queues), h("p", null, "No queue ", h("b", null, h("bdi", null, shown(wanted))), " is served here. ", h("a", { href: "#" }, "All queues"))];
  if (!queue) return [glance(queues), table(queues)];
  if (entry !== null) {
    const life = seen.lives.queue === wanted && seen.lives.entry === entry ? seen.lives.found : null;
    return [lifeOf(queue, entry, life, time)];
  }
  const view = {
    now: time, span: seen.span, width: main.clientWidth, redraw: draw, onFind,
    history: seen.history.queue === queue.queue ? seen.history : null,
    onSpan: (span) => { seen.span = span; draw(); },
  };
  const back = queues.length > 1 ? [h("p", { key: "back", class: "back" }, h("a", { href: "#" }, "← All queues"))] : [];
  return [...back, ...details(queue, view)];
}

function drawHeader() {
  const daemon = seen.status?.daemon;
  patch(document.getElementById("daemon"), daemon ? [`on ${shown(daemon.host)}`] : []);
  patch(document.getElementById("sign"), seen.status && !seen.missing ? [`live, ${clock(seen.status.time, true)}`] : []);
  const worst = seen.status?.queues.filter((queue) => condition(queue) !== "ok").length ?? 0;
  document.title = seen.missing ? "no answer – watcher" : worst ? `${worst} ✕ watcher` : "watcher";
}

function drawSilence(gone) {
  const box = document.getElementById("silence");
  box.hidden = !gone;
  if (!gone) return;
  const age = seen.at ? ` since ${clock(seen.at / 1000, true)} (${duration((Date.now() - seen.at) / 1000)}); what is below is as old` : "";
  patch(box, [h("p", null, h("strong", null, seen.missing === "no answer" ? `No answer${age}.` : `${shown(seen.missing)}${age}.`)),
    h("p", null, "The daemon may have ended. On its machine, type:"),
    (chosen() ? [chosen()] : seen.status?.queues ?? []).slice(0, 3).map((queue) => command(`watcher status ${quoted(queue.path)}`)),
  ].flat());
}

/** Say a change of the condition to a screen reader; what did not change is not said again. */
function announce() {
  const text = seen.missing ? "The daemon does not answer." : seen.status ? verdict(seen.status.queues) : "";
  const found = seen.missing ? [] : (seen.status?.queues ?? []).flatMap((queue) => problems(queue).map((each) => `${queue.queue} ${each.about}`));
  const words = `${text} ${found.join()}`;
  if (words === seen.announced) return;
  seen.announced = words;
  document.getElementById("announcement").textContent = text;
}

function tokenForm() {
  const onsubmit = (event) => {
    event.preventDefault();
    keepToken(new FormData(event.currentTarget).get("token").trim());
    start();
  };
  return h("form", { class: "token", onsubmit },
    h("label", { for: "token" }, "Token of this page (the file that http_token_file names)"),
    h("input", { id: "token", name: "token", type: "password", required: true, autocomplete: "off" }),
    h("button", { type: "submit" }, "Show the page"));
}

// -- colours, and the beginning -------------------------------------------------------------------

function setColours(word) {
  if (word) document.documentElement.dataset.colours = word;
  else delete document.documentElement.dataset.colours;
}

const colours = document.getElementById("colours");
colours.value = localStorage.getItem(COLOURS) ?? "";
setColours(colours.value);
colours.onchange = () => {
  localStorage.setItem(COLOURS, colours.value);
  setColours(colours.value);
};

document.querySelector(".skip").onclick = (event) => {
  event.preventDefault(); // the fragment says what is shown, and stays
  main.focus();
};
addEventListener("hashchange", onMove);
addEventListener("resize", draw);
document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
if (!document.hidden) start();
