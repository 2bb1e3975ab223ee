// Thumbnails, cut out of sheets by their place. A rule for each sheet leaves a picture one style of its own.

const rules = new CSSStyleSheet();
const classes = new Map();
document.adoptedStyleSheets = [rules];

function sheetClass(run, number) {
  const {columns, sheets, heights, size} = run.images, key = `${sheets[number]} ${heights[number]}`;
  if (!classes.has(key)) {
    const name = sheets[number], element = inside(name);
    const address = element ? URL.createObjectURL(new Blob([bytes(element.textContent)], {type: "image/jpeg"})) : `data/${encodeURIComponent(name)}.jpg`;
    const found = `sheet-${classes.size}`, whole = new URL(address, location.href).href;  // a rule of a script has no address of its own
    rules.insertRule(`.${found} { background-image: url("${whole}"); background-size: ${100 * columns}% ${100 * heights[number]}%; ${size <= 64 ? "image-rendering: pixelated;" : ""} }`);
    classes.set(key, found);
  }
  return classes.get(key);
}

// The picture at a place among the shown ones, `side` CSS pixels wide (as wide as its box where not given).
function picture(run, at, side) {
  const {columns, heights} = run.images, each = columns * columns, sheet = Math.floor(at / each), rows = heights[sheet];
  const within = at % each, x = within % columns, y = Math.floor(within / columns), node = document.createElement("span");
  node.setAttribute("role", "img");
  node.setAttribute("aria-label", run.images.ids[at]);
  node.title = run.images.ids[at];
  node.className = heights.length ? `picture ${sheetClass(run, sheet)}` : "picture absent";
  if (!heights.length) node.textContent = run.images.ids[at];  // images that are known by their ids alone
  else node.style.backgroundPosition = `${columns > 1 ? 100 * x / (columns - 1) : 0}% ${rows > 1 ? 100 * y / (rows - 1) : 0}%`;
  if (side) { node.style.width = `${side}px`; node.style.height = `${side}px`; }
  return node;
}
