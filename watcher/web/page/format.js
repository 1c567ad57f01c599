// Numbers, times and names as text. Pure.
//
// Guarantees: a name is one line without characters that cannot be seen or that turn the direction of
// writing. A value that is not known is a dash.

const UNITS = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
const UNSEEN = /[\p{C}\u2028\u2029]/gu;
export const NONE = "–";

/** Return a duration in its two largest units, as the commands show it: 2h5m. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 0.0005) return "0s";
  if (seconds < 1) return `${Math.round(seconds * 1000)}ms`;
  let rest = Math.round(seconds);
  const words = [];
  for (const [unit, size] of UNITS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count) words.push(`${count}${unit}`);
  }
  return words.slice(0, 2).join("");
}

/** Return how long ago a moment was. */
export function ago(seconds, now) {
  return now - seconds < 1 ? "now" : `${duration(now - seconds)} ago`;
}

/** Return how long something short took: three digits are enough, and none is lost. */
export function precise(seconds) {
  if (!known(seconds) || seconds >= 10) return duration(seconds);
  const [number, unit] = seconds < 0.9995 ? [seconds * 1000, "ms"] : [seconds, "s"];
  return `${number >= 10 ? Math.round(number) : Number(number.toFixed(1))}${unit}`;
}

/** Return a whole number with thin spaces between its thousands. */
export function count(number) {
  if (!known(number)) return NONE;
  return String(Math.round(number)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

/** Return a number with its noun: 1 entry, 2 entries. */
export function counted(number, one, more) {
  return `${count(number)} ${number === 1 ? one : more}`;
}

/** Return a moment as local time, with its date if it is not today's. */
export function moment(seconds, now) {
  if (!known(seconds)) return NONE;
  const at = new Date(seconds * 1000);
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  const today = known(now) && new Date(now * 1000).toDateString() === at.toDateString();
  return today ? clock : `${day(at)} ${clock}`;
}

/** Return hours and minutes, and seconds if they are asked for. */
export function clock(seconds, exact) {
  const at = new Date(seconds * 1000);
  const text = `${two(at.getHours())}:${two(at.getMinutes())}`;
  return exact ? `${text}:${two(at.getSeconds())}` : text;
}

/** Return bytes as GiB, MiB or KiB. */
export function bytes(number) {
  for (const [unit, size] of [["TiB", 2 ** 40], ["GiB", 2 ** 30], ["MiB", 2 ** 20]]) {
    if (number >= size) return `${(number / size).toFixed(number < 10 * size ? 1 : 0)} ${unit}`;
  }
  return `${Math.round(number / 1024)} KiB`;
}

/** Return a name, or any text from a queue, on one line; what cannot be seen becomes an escape. */
export function shown(text) {
  return String(text ?? "").replace(UNSEEN, (character) => {
    const code = character.codePointAt(0).toString(16);
    return code.length > 2 ? `\\u{${code}}` : `\\x${code.padStart(2, "0")}`;
  });
}

/** Return a word of a command line, quoted if the shell would read it otherwise. */
export function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

function known(number) {
  return typeof number === "number" && Number.isFinite(number);
}

function two(number) {
  return String(number).padStart(2, "0");
}

function day(at) {
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}
