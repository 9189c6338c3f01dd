// Elements made without markup: texts of the corpus become text nodes, and nothing else.

const SVG = "http://www.w3.org/2000/svg";

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

const el = (name, attributes = {}, ...children) => build(document.createElement(name), attributes, children);
const svg = (name, attributes = {}, ...children) => build(document.createElementNS(SVG, name), attributes, children);

/** A text of the corpus in its own writing direction. */
const own = (text) => el("bdi", {}, text);

const byId = (id) => document.getElementById(id);

/** A bar whose length is a share of the whole, in two tones: what is kept of what there is. */
function bar(part, whole, kept = null, label = "") {
  const width = whole ? (100 * part) / whole : 0;
  const parts = [svg("rect", { class: kept === null ? "kept" : "lost", width: `${width}%`, height: 14, rx: 2 })];
  if (kept !== null) parts.push(svg("rect", { class: "kept", width: `${(100 * kept) / (whole || 1)}%`, height: 14, rx: 2 }));
  return svg("svg", { class: "bar", height: 14, role: "img", "aria-label": label }, ...parts);
}
