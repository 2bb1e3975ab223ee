// Thumbnails, cut out of sheets by their place.

const addresses = new Map();

function sheetAddress(name) {
  if (!addresses.has(name)) {
    const element = inside(name);
    const address = element
      ? URL.createObjectURL(new Blob([bytes(element.textContent)], {type: "image/jpeg"}))
      : `data/${encodeURIComponent(name)}.jpg`;
    addresses.set(name, `url("${address}")`);
  }
  return addresses.get(name);
}

// The picture at a place among the shown ones, `side` CSS pixels wide (as wide as its box where not given).
function picture(run, at, side, label) {
  const node = h("span", {className: "picture", role: "img", ariaLabel: label ?? run.images.ids[at], title: label ?? run.images.ids[at]});
  if (side) { node.style.width = `${side}px`; node.style.height = `${side}px`; }
  const {columns, sheets, heights, size} = run.images, each = columns * columns, sheet = Math.floor(at / each), rows = heights[sheet];
  const within = at % each, x = within % columns, y = Math.floor(within / columns);
  node.style.backgroundImage = sheetAddress(sheets[sheet]);
  node.style.backgroundSize = `${100 * columns}% ${100 * rows}%`;
  node.style.backgroundPosition = `${columns > 1 ? 100 * x / (columns - 1) : 0}% ${rows > 1 ? 100 * y / (rows - 1) : 0}%`;
  if (size <= 64) node.classList.add("tiny");
  return node;
}
