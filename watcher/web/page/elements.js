// What is to be shown, as plain objects, and the change of the document to it.
//
// Guarantees: text becomes text and never markup, so that a name cannot become an element. An element
// that stays keeps its focus, its selection and its scroll position: only what differs is changed.
// Fails: never, but for an attribute that the document refuses.

const SVG = "http://www.w3.org/2000/svg";

/** Return what is to be shown: an element, its attributes, and its children; null is left out. */
export function h(tag, attributes, ...children) {
  const shown = children.flat(Infinity).filter((child) => child !== null && child !== undefined);
  return { tag, attributes: attributes ?? {}, children: shown };
}

/** Change the children of an element of the document to these. */
export function patch(parent, children) {
  const keyed = children.some((wanted) => wanted.attributes?.key !== undefined) ? byKey(parent, children) : new Map();
  let place = parent.firstChild;
  for (const wanted of children) {
    const key = wanted.attributes?.key;
    let node = key === undefined ? place : keyed.get(key);
    keyed.delete(key);
    if (!fits(node, wanted, key)) {
      node = create(wanted, parent);
      node.watcherKey = key;
    }
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
    update(node, wanted);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

/** Return the children of an element that have a key and stay, by their keys. */
function byKey(parent, children) {
  const keys = new Set(children.map((wanted) => wanted.attributes?.key));
  const keyed = new Map();
  for (const child of [...parent.childNodes]) {
    if (!keys.has(child.watcherKey)) child.remove(); // first, so that what stays need not be moved
    else if (child.watcherKey !== undefined) keyed.set(child.watcherKey, child);
  }
  return keyed;
}

function fits(node, wanted, key) {
  if (!node || node.watcherKey !== key) return false;
  if (typeof wanted !== "object") return node.nodeType === Node.TEXT_NODE;
  return node.nodeType === Node.ELEMENT_NODE && node.localName === wanted.tag;
}

function create(wanted, parent) {
  if (typeof wanted !== "object") return document.createTextNode("");
  const drawn = wanted.tag === "svg" || parent.namespaceURI === SVG;
  return drawn ? document.createElementNS(SVG, wanted.tag) : document.createElement(wanted.tag);
}

function update(node, wanted) {
  if (typeof wanted !== "object") {
    const text = String(wanted);
    if (node.data !== text) node.data = text;
    return;
  }
  const given = wanted.attributes;
  for (const name of node.getAttributeNames()) {
    if (!(name in given)) node.removeAttribute(name);
  }
  for (const [name, value] of Object.entries(given)) set(node, name, value);
  patch(node, wanted.children);
}

function set(node, name, value) {
  if (name === "key") return;
  if (name.startsWith("on")) {
    node[name] = value;
  } else if (value === null || value === undefined || value === false) {
    node.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (node.getAttribute(name) !== text) node.setAttribute(name, text);
  }
}
