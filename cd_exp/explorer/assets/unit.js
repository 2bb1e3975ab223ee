// One unit: what excites it, how far, what it is called and how sure that is.

async function unitView(main, run, state) {
  const layer = run.layerNumber.get(state.get("of")), unit = Number(state.get("unit"));
  const table = run.tables.get(state.get("method")) ?? run.main;
  const at = layer === undefined ? -1 : table.find(layer, unit), place = layer === undefined ? -1 : placeOf(run, layer, unit);
  if (at < 0 && place < 0) return missing(main, `${state.get("of")} unit ${state.get("unit")}: Unit not found.`);
  const rows = selected(table, state).rows, here = rows.indexOf(at);
  const step = by => { if (here >= 0 && rows[here + by] !== undefined) openUnit(table, rows[here + by], state); };
  const name = run.layers[layer].name;
  fill(main, heading(run, table, at, {name, unit, rows, here, step, state}));
  if (place >= 0) {
    const detail = await run.detail(layer);
    const left = h("div", null, strongest(run, layer, place, detail ?? {}), detail ? weaker(run, place, detail) : elsewhere(run, "What excites the unit less, its scores and the units with correlated activations", state));
    const right = h("div", null, detail ? [scores(run, at, place, detail, table), stableSet(run, place, detail), histogram(place, detail, run.main.has(run.main.find(layer, unit), "dead"))] : null,
      called(run, layer, unit), detail ? nearest(run, layer, place, detail, state) : null);
    append(main, [h("div", {className: "unit-page"}, left, right)]);
  }
  return {previous: () => step(-1), next: () => step(1)};
}

function heading(run, table, at, {name, unit, rows, here, step, state}) {
  const label = at >= 0 ? table.label(at) : "", marks = at >= 0 ? table.marksOf(at) : [];
  const truth = at >= 0 ? table.truths(at) : [];
  const facts = at < 0 ? [] : table.keys.map(key => [key, columnText(key, table.numbers(key)[at])]).filter(([, value]) => value);
  const link = (by, text, key) => h("button", {type: "button", className: "quiet", disabled: rows[here + by] === undefined || here < 0, onclick: () => step(by), title: key}, text);
  return h("header", {className: "title"},
    h("p", {className: "crumbs"},
      h("a", {href: href({view: "units", of: "", unit: "", at: at}, state)}, "units"), ` / ${name} / unit ${unit}`,
      h("span", {className: "stepping"}, link(-1, "← previous", "["), here >= 0 ? ` ${(here + 1).toLocaleString("en")} of ${rows.length.toLocaleString("en")} ` : " ", link(1, "next →", "]"))),
    h("h1", null, at >= 0 ? verdict(table.right[at]) : null, " ", label ? h("span", {className: at >= 0 && table.isUnsure(at) ? "unsure" : ""}, conceptLink(label, state)) : "(no label)"),
    h("p", {className: "facts"}, at >= 0 ? pickButton(table, at) : null, sure(table, at),
      at >= 0 && table.general[at] >= 0 ? h("span", null, h("b", null, "in general "), run.name(table.general[at])) : null,
      truth.length ? h("span", null, h("b", null, "truth "), truth.flatMap((name, i) => [i ? "; " : "", conceptLink(run.name(name), state)])) : null,
      facts.map(([key, value]) => h("span", {title: COLUMN[key] ?? null}, h("b", null, `${heading_(key)} `), value)),
      marks.map(mark => h("span", {className: "badge", title: MEANING[mark] ?? ""}, mark.replaceAll("_", " ")))));
}

const MEANING = {
  dead: "the same activation for every image", always_on: "above zero for nearly every image",
  one_unit: "the label belongs to no other unit", ceiling: "the score cannot get higher, so its order among others says little",
  few_images: "fires on fewer images than are read; others fill up",
  below_min_iou: "no concept overlaps enough",
  circular: "judged with the same CLIP that gave the label",
};

function conceptLink(name, state) {
  return h("a", {href: href({view: "concept", concept: name, of: "", unit: "", q: "", show: "", at: ""}, state)}, name);
}

function elsewhere(run, words, state) {
  return h("p", {className: "elsewhere"}, `${words} are on the page of the run: `, h("a", {href: run.home + href({run: ""}, state)}, run.home));
}

function card(run, image, below, state = current(), over = null) {
  return h("figure", {className: "card"},
    h("a", {href: href({view: "picture", image: run.imageIndex[image], of: "", unit: "", q: "", show: "", at: "", concept: ""}, state)}, over ? h("span", {className: "overlaid"}, picture(run, image), over) : picture(run, image)),
    h("figcaption", null, below));
}

function section(title, note, ...content) {
  return h("section", null, h("h2", null, title), note ? h("p", {className: "soft"}, note) : null, ...content);
}

function strongest(run, layer, place, detail) {
  const images = row(run.pictures(layer), place), values = detail.values ? row(unpacked(detail.values), place) : [];
  return section("Strongest images", detail.values ? "with the activation of the unit" : "",
    detail.maps ? whereSwitch(images.length) : null,
    h("div", {className: `cards large where${current().get("maps") === "off" ? " off" : ""}`}, Array.from(images, (image, i) => card(run, image, number(values[i]), current(), heat(run, place, i, detail)))),
    mapNote(run, place, images.length, detail));
}

// Which images have no map, and how a layer that has an extent gets its maps.
function mapNote(run, place, count, detail) {
  const missing = detail.maps ? Array.from({length: count}, (_, i) => i).filter(i => !mapOf(place, i, detail)).length : 0;
  if (missing) return h("p", {className: "soft elsewhere"}, `Where the unit is active was not kept for ${missing} of these images.`);
  return detail.maps || run.home || (run.region?.length && !detail.extent) ? null : h("p", {className: "soft elsewhere"}, "Where in these images the unit is active, for layers that have an extent: ", h("code", null, "python -m cd_exp.report FOLDER --maps"));
}

// The map of a unit for one of its strongest images; nothing where there is none, which 255 stands for.
function mapOf(place, i, detail) {
  const [, kept, height, width] = detail.maps.shape, each = height * width;
  const values = i < kept ? row(unpacked(detail.maps), place).subarray(i * each, (i + 1) * each) : null;
  return values && values[0] !== 255 ? values : null;
}

// The switch of the maps, and what their colours mean.
function whereSwitch() {
  const box = h("input", {type: "checkbox", id: "where", checked: current().get("maps") !== "off", onchange: () => {
    change({maps: box.checked ? "" : "off"}, {quietly: true});
    document.querySelector(".where").classList.toggle("off", !box.checked);
  }});
  const colours = [0, 25, 50, 75, 100].map(value => `rgb(${colourOf(value).slice(0, 3).join(" ")})`).join(", ");
  const scale = h("span", {className: "scale", style: `background: linear-gradient(90deg, ${colours})`});
  return h("p", {className: "where-legend"}, h("label", {className: "check"}, box, " where in the image the unit is active "),
    h("span", {className: "soft range"}, "least ", scale, " greatest activation of the unit"), h("span", {className: "soft"}, "dark: outside what the network sees"));
}

// From deep blue over green to yellow, even in lightness (five colours of viridis), and the stronger the less transparent.
const COLOURS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

function colourOf(value) {
  const at = Math.min(3.9999, Math.max(0, value / 25)), low = Math.floor(at), part = at - low;
  return [...COLOURS[low].map((from, i) => Math.round(from + part * (COLOURS[low + 1][i] - from))), Math.round(60 + 1.2 * value)];
}

// The map of a unit over one of its strongest images; nothing without maps.
function heat(run, place, i, detail) {
  if (!detail.maps) return null;
  const [, , height, width] = detail.maps.shape, [left, top, right, bottom] = run.region, values = mapOf(place, i, detail);
  if (!values) return null;
  const canvas = h("canvas", {width, height, className: "heat", ariaHidden: true}), context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  values.forEach((value, k) => pixels.data.set(colourOf(value), 4 * k));
  context.putImageData(pixels, 0, 0);
  Object.assign(canvas.style, {left: `${100 * left}%`, top: `${100 * top}%`, width: `${100 * (right - left)}%`, height: `${100 * (bottom - top)}%`});
  return canvas;
}

function weaker(run, place, detail) {
  if (!detail.weaker) return null;
  const images = unpacked(detail.weaker), values = unpacked(detail.weaker_values), [, levels, beside] = detail.weaker.shape;
  if (!beside) return null;
  return section("Weaker images", "weak activations: about the 75th and the 50th percentile of all images",
    h("div", {className: "groups"}, ["75th", "50th"].slice(0, levels).map((words, level) => h("div", null, h("h3", null, `${words} percentile`),
      h("div", {className: "cards"}, Array.from({length: beside}, (_, i) => {
        const at = (place * levels + level) * beside + i;
        return card(run, images[at], number(values[at]));
      }))))));
}

function histogram(place, detail, dead) {
  if (!detail.histogram) return null;
  const counts = row(unpacked(detail.histogram), place), low = unpacked(detail.low)[place], high = unpacked(detail.high)[place];
  const most = Math.max(1, ...counts), left = 44, top = 6, width = 320 - left, height = 110, each = width / counts.length, foot = top + height;
  const scale = count => count ? Math.max(1.5, height * Math.log1p(count) / Math.log1p(most)) : 0;
  const levels = [0, ...[1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7].filter(level => scale(level) > 13 && scale(most) - scale(level) > 13), most], marks = [0, 0.25, 0.5, 0.75, 1];
  return section("Activations", dead ? "the same for every image" : "how many of the images have which activation",
    h("svg", {viewBox: `0 0 ${left + width + 14} ${foot + 32}`, role: "img", class: "histogram", "aria-label": `histogram of activations from ${number(low)} to ${number(high)}`},
      levels.map(level => [h("line", {x1: left, x2: left + width, y1: foot - scale(level), y2: foot - scale(level)}), h("text", {x: left - 5, y: foot - scale(level) + 4, "text-anchor": "end"}, level >= 1e4 ? `${Math.round(level / 1e3)}k` : level.toLocaleString("en"))]),
      Array.from(counts, (count, i) => h("rect", {className: "bar", x: left + i * each + 0.5, width: each - 1, y: foot - scale(count), height: scale(count)},
        h("title", null, `${number(low + (high - low) * i / counts.length)} to ${number(low + (high - low) * (i + 1) / counts.length)}: ${count.toLocaleString("en")} images`))),
      (high > low ? marks : [0.5]).map(mark => h("text", {x: left + mark * width, y: foot + 14, "text-anchor": "middle"}, number(low + mark * (high - low), 3))),
      h("text", {x: left + width / 2, y: foot + 29, "text-anchor": "middle"}, "activation (heights: images, logarithmic)")));
}

function scores(run, at, place, detail, table) {
  if (at < 0) return null;
  const five = table.five(at), values = table === run.main && detail.scores ? Array.from(row(unpacked(detail.scores), place)) : [table.numbers("similarity")[at]];
  const least = Math.min(0, ...values.filter(value => !Number.isNaN(value))), most = Math.max(...values.filter(value => !Number.isNaN(value)), least + 1e-12);
  const tied = values.filter(value => Math.abs(value - values[0]) <= 1e-6 * Math.max(1, Math.abs(values[0]))).length;
  return section("Best concepts", [table.method === run.main.method ? "with the score of the similarity function" : table.method, values.length < five.length ? "; only that of the first is stored" : "", tied > 1 ? `; the first ${tied} tie: their order says nothing` : ""].join(""),
    h("ol", {className: "bars"}, five.map((name, i) => h("li", null,
      conceptLink(run.name(name), current()), h("span", {className: "n"}, number(values[i])),
      values.length < 2 || Number.isNaN(values[i]) ? null : h("meter", {min: 0, max: 1, value: (values[i] - least) / (most - least), ariaHidden: true})))));
}

function stableSet(run, place, detail) {
  if (!detail.stable) return null;
  const names = Array.from(row(unpacked(detail.stable), place)).filter(name => name >= 0);
  return section("Stable set", "smallest set of labels covering 90 % of resamples",
    h("p", {className: "chips"}, names.map(name => conceptLink(run.name(name), current()))));
}

function called(run, layer, unit) {
  const rows = [...run.tables.values()].map(table => [table, table.find(layer, unit)]);
  if (rows.length < 2) return null;
  return section("What every method calls it", "",
    h("table", null, h("tbody", null, rows.map(([table, at]) => h("tr", null,
      h("th", {scope: "row"}, table.method),
      h("td", null, at < 0 ? "not labelled" : [verdict(table.right[at]), " ", table.label(at) ? conceptLink(table.label(at), current()) : "(none)", " ", sure(table, at)]),
      h("td", {className: "n"}, at < 0 ? "" : number(table.numbers("similarity")[at])))))));
}

function nearest(run, layer, place, detail, state) {
  if (!detail.nearest) return null;
  const near = row(unpacked(detail.nearest), place), values = row(unpacked(detail.correlation), place), main = run.main;
  const start = main.starts[main.layers.findIndex(([name]) => name === run.layers[layer].name)];
  if (!near.length) return null;
  const images = `correlation over ${detail.compared_on.toLocaleString("en")} images`;
  return section("Units with correlated activations",
    detail.compared_all === false ? `${images}; looked for among units of the same groups (random projection), so some may be missed` : images,
    h("ul", {className: "alike"}, Array.from(near, (other, i) => {
      const at = start + other;
      return h("li", null, h("a", {href: href({view: "unit", of: run.layers[layer].name, unit: main.unit[at]}, state)},
        h("span", {className: "n"}, number(values[i], 2)), ` unit ${main.unit[at]} · `, main.label(at) || "(none)"),
        h("span", {className: "strip"}, strip(run, main, at).slice(0, 5)));
    })));
}

function missing(main, text) {
  fill(main, h("h1", null, "Not in this page"), h("p", null, text), h("p", null, h("a", {href: "#view=overview"}, "To the overview")));
  return {};
}
