"use strict";
// Elements. Names of concepts, images and layers only ever become text, never markup.

const SVG = new Set(["svg", "path", "rect", "line", "text", "g", "title", "circle"]);

function h(tag, properties, ...children) {
  const node = SVG.has(tag) ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key.startsWith("aria")) node.setAttribute(`aria-${key.slice(4).toLowerCase()}`, value);
    else if (key in node && !SVG.has(tag)) node[key] = value;
    else node.setAttribute(key === "className" ? "class" : key, value === true ? "" : value);
  }
  append(node, children);
  return node;
}

function append(node, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === "") continue;
    node.append(child);  // a string becomes a text node
  }
}

function fill(node, ...children) {
  node.replaceChildren();
  append(node, children);
  return node;
}

// A text with the places that a search matched.
function marked(text, pattern) {
  if (!pattern) return text;
  const found = [];
  let last = 0;
  for (const match of text.matchAll(pattern)) {
    if (!match[0]) continue;
    found.push(text.slice(last, match.index), h("mark", null, match[0]));
    last = match.index + match[0].length;
  }
  return [...found, text.slice(last)];
}

function number(value, digits = 4) {
  if (value === undefined || value === null || Number.isNaN(value)) return "";
  if (typeof value === "string") return value;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  if (Math.abs(value) < 1e-3) return value.toExponential(1);
  return Number(value.toPrecision(digits)).toString();
}

// As Python writes them, in the terminal and in files: JavaScript rounds 6.25 to 6.3, Python to 6.2, the even one. Shares and
// p of McNemar's test are often such ties.
function fixed(value, digits) {
  const exact = Math.abs(value).toFixed(digits + 40), rest = exact.slice(exact.indexOf(".") + 1 + digits);
  const down = exact.slice(0, -rest.length).replace(/\.$/, "");
  return /^50*$/.test(rest) && Number(down.at(-1)) % 2 === 0 ? `${value < 0 ? "-" : ""}${down}` : value.toFixed(digits);
}

// Two digits, as Python's format ".2g".
function general(value) {
  if (!value) return "0";
  const [whole, power] = Math.abs(value).toExponential(60).split("e"), digits = whole.replace(".", "");
  const even = /^50*$/.test(digits.slice(2)) && Number(digits[1]) % 2 === 0, rounded = even ? `${digits[0]}.${digits[1]}e${power}` : Math.abs(value).toExponential(1);
  const [mantissa, exponent] = rounded.split("e").map(Number), sign = value < 0 ? "-" : "";
  return exponent < -4 || exponent > 1 ? `${sign}${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}` : `${sign}${Number(rounded)}`;
}

function percent(part, of) {
  return of ? `${(100 * part / of).toFixed(1)} %` : "";
}

function say(text) {
  document.getElementById("said").textContent = text;
}

function verdict(right) {
  if (right === 1) return h("span", {className: "good", title: "right", role: "img", ariaLabel: "right"}, "✓");
  if (right === 0) return h("span", {className: "bad", title: "wrong", role: "img", ariaLabel: "wrong"}, "✗");
  return null;
}

// A bar of how far a label can be trusted; below one half it is grey and says so.
function sure(table, at) {
  const value = at < 0 ? NaN : table.certainty(at);
  if (Number.isNaN(value)) return null;
  const name = table.certaintyKey === "p_right" ? "p(right)" : "stability", text = `${name} ${value.toFixed(2)}`;
  return h("span", {className: `sure${value < 0.5 ? " unsure" : ""}`, title: text},
    h("meter", {min: 0, max: 1, value, ariaLabel: text}), value < 0.5 ? "unsure" : value.toFixed(2));
}

function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], {type}));
  const link = h("a", {href: address, download: name});
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// A cell of a CSV file. What a spreadsheet would run as a formula gets an apostrophe before it.
function csvCell(value) {
  let text = value === null || value === undefined || Number.isNaN(value) ? "" : String(value);
  if (typeof value === "string" && /^[\s]*[=+\-@\t\r]/.test(text)) text = `'${text}`;
  return /[",\n\r;]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function csv(rows) {
  return rows.map(row => row.map(csvCell).join(",") + "\n").join("");
}
