// The run at a glance, one concept, and one picture.

function overviewView(main, run, state) {
  fill(main,
    h("h1", null, run.title),
    layersTable(run, state),
    queries(run, state),
    scatter(run, state),
    results(run),
    h("section", null, h("h2", null, "Labels given most often"), h("p", {className: "soft"}, "labels shared by many units are rarely informative"),
      run.main.layers.map(([name]) => frequent(run, name, state))),
    h("div", {className: "columns"},
      h("section", null, h("h2", null, "The run"),
        h("dl", {className: "about"}, Object.entries(run.about).map(([key, value]) => [h("dt", null, key), h("dd", null, value)]))),
      h("section", null, h("h2", null, "The command"), h("pre", {tabIndex: 0}, run.command),
        h("p", {className: "soft"}, Object.entries(run.seconds).map(([key, value]) => `${key} ${value.toFixed(1)} s`).join(" · ")),
        run.notes.length ? h("ul", {className: "notes"}, run.notes.map(note => h("li", null, note))) : null)));
  return {};
}

// What the headings of a table mean, for readers without a pointer to hold over them.
function legend(figures) {
  return figures.length ? h("details", {className: "legend"}, h("summary", null, "What the headings mean"), h("dl", {className: "about"}, figures.map(({heading, meaning}) => [h("dt", null, heading), h("dd", null, meaning)]))) : null;
}

const OF_A_LAYER = ["units", "top1", "p_right_share", "stability_median", "stable_share", "dead", "always_on", "distinct_labels", "commonest_label", "commonest_share"];

// The run's own numbers of each layer; nothing is counted here.
function layersTable(run, state) {
  const values = run.metrics[run.main.method] ?? {}, figures = OF_A_LAYER.map(key => key === "units" ? {key, heading: "units", meaning: "units of the layer", digits: 0} : run.figures.find(figure => figure.key === key)).filter(figure => figure && (figure.key === "units" || Object.values(values).some(metrics => metrics[figure.key] !== undefined)));
  const judged = metrics => metrics.judged && metrics.judged < metrics.units ? h("span", {className: "soft"}, ` of ${metrics.judged.toLocaleString("en")}`) : null;
  return section("Layers", "in brackets the 95 % interval over units",
    h("div", {className: "scroll"}, h("table", {className: "layers"},
      h("thead", null, h("tr", null, h("th", {scope: "col"}, "layer"), figures.map(figure => h("th", {scope: "col", className: "n", title: figure.meaning}, figure.heading)))),
      h("tbody", null, run.layers.map(({name, units}) => {
        const metrics = {units, ...values[name]};
        return h("tr", null, h("th", {scope: "row"}, h("a", {href: href({view: "units", layer: name}, state)}, name)),
          figures.map(figure => h("td", {className: "n"}, metricText(figure, metrics, figure.key === "top1"), figure.key === "top1" ? judged(metrics) : null)));
      })))), legend(figures));
}

// Phrases asked for, each with the units that match it best.
function queries(run, state) {
  if (!run.queries?.length) return null;
  return section("Phrases asked for", "the units that match each best, with the rank of the phrase among all concepts",
    run.queries.map(query => h("div", {className: "query"}, h("h3", null, conceptLink(query.words, state)),
      Object.entries(query.layers).map(([layer, found]) => {
        const units = Array.from(unpacked(found.units)).slice(0, 5), ranks = unpacked(found.ranks);
        return h("div", {className: "small-rows"}, units.map((unit, i) => {
          const at = run.main.find(run.layerNumber.get(layer), unit);
          return smallRow(run.main, at, state, `${run.main.label(at)} · rank ${ranks[i].toLocaleString("en")}`);
        }));
      }))));
}

// Each unit of a layer: how far its label can be trusted against how often it fires; a click opens the unit.
function scatter(run, state) {
  const table = run.main;
  if (!table.certaintyKey || !run.layers.some(layer => layer.fires)) return null;
  const name = table.certaintyKey === "p_right" ? "p(right)" : "stability", width = matchMedia("(max-width: 760px)").matches ? 370 : 640, height = 300, left = 40, low = 34, end_ = 26;
  const x = value => left + value * (width - left - end_), y = value => 24 + (1 - value) * (height - low - 24);
  const box = h("div", {className: "scroll"}), key = h("p", {className: "chips key"}), first = table.layers.length - 1;
  let number = first, byLabel = false;
  const draw = () => {
    const start = table.starts[number], end = table.starts[number + 1] ?? table.count, fires = unpacked(run.layers[run.layerNumber.get(table.layers[number][0])].fires), dots = [];
    if (!fires) { fill(box, h("p", {className: "soft"}, "Not known for this layer.")); return; }
    const colours = byLabel ? commonest(table, start, end) : new Map();
    fill(key, byLabel ? [...colours].map(([label, colour]) => h("span", null, h("span", {className: "swatch", style: `background: ${colour}`}), " ", conceptLink(run.name(label), state))) : [["right", "right"], ["wrong", "wrong"], ["open", "truth unknown"], ["flagged", "flagged"]].map(([kind, words]) => h("span", null, h("svg", {viewBox: "0 0 12 12", class: "dot"}, h("circle", {class: kind, cx: 6, cy: 6, r: 4})), ` ${words}`)), byLabel ? "grey: other labels" : null);
    for (let at = start; at < end && dots.length < 4000; at++) {
      if (Number.isNaN(table.certainty(at))) continue;
      const kind = byLabel ? "labelled" : table.marks[at] ? "flagged" : {1: "right", 0: "wrong"}[table.right[at]] ?? "open";
      const dot = h("circle", {class: kind, cx: x(fires[at - start]), cy: y(table.certainty(at)), r: 4, "data-at": at},
        h("title", null, `unit ${table.unit[at]} · ${table.label(at) || "(none)"} · ${name} ${table.certainty(at).toFixed(2)} · fires on ${(100 * fires[at - start]).toFixed(1)} % of the images`));
      if (byLabel) dot.style.fill = colours.get(table.top[5 * at]) ?? "#9aa4ae55";  // the policy of the page refuses a style attribute
      dots.push(dot);
    }
    const ticks = [0, 0.25, 0.5, 0.75, 1];
    fill(box, h("svg", {viewBox: `0 0 ${width} ${height}`, class: "scatter", role: "img", "aria-label": `${name} of the units of ${table.layers[number][0]} against the share of images on which they fire`,
      onclick: event => { const at = event.target.closest("circle")?.dataset.at; if (at !== undefined) openUnit(table, Number(at), state); }},
      ticks.map(tick => [h("line", {x1: left, x2: width - end_, y1: y(tick), y2: y(tick)}), h("text", {x: left - 6, y: y(tick) + 4, "text-anchor": "end"}, tick.toFixed(2)),
        h("text", {x: x(tick), y: height - 18, "text-anchor": "middle"}, `${100 * tick} %`)]),
      h("text", {x: (width + left) / 2, y: height - 2, "text-anchor": "middle"}, "share of images on which the unit fires"), h("text", {x: 2, y: 11}, name), dots));
  };
  draw();
  const pick = choice("layer", table.layers.map((_, layer) => String(layer)), layer => table.layers[Number(layer)][0], String(first), layer => { number = Number(layer); draw(); });
  const paint = choice("colours", ["truth", "label"], name => ({truth: "truth and flags", label: "commonest labels"})[name], "truth", name => { byLabel = name === "label"; draw(); });
  return section("Units of a layer", `each dot is a unit: ${name} of its label against the share of images with an activation above 0; click a dot to open the unit`, h("div", {className: "controls"}, pick, paint), key, box);
}

const PAINTS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31"];  // of Okabe and Ito, brown for black

// The labels that most of these units have, each with its colour.
function commonest(table, start, end) {
  const counts = new Map();
  for (let at = start; at < end; at++) if (table.top[5 * at] >= 0) counts.set(table.top[5 * at], (counts.get(table.top[5 * at]) ?? 0) + 1);
  return new Map([...counts].sort((a, b) => b[1] - a[1]).slice(0, PAINTS.length).map(([label], i) => [label, PAINTS[i]]));
}

function metricText(figure, values, interval = true) {
  if (values[figure.key] === undefined) return "";
  const text = value => typeof value === "number" ? fixed(value, figure.digits) : String(value);
  const bounds = interval ? values[figure.interval] : null;
  return text(values[figure.key]) + (bounds ? ` [${bounds.map(text).join(", ")}]` : "");
}

// A layer at a time: a row for each metric with its meaning, a column for each method.
function results(run) {
  const methods = Object.entries(run.metrics), layers = run.layers.map(layer => layer.name).filter(name => methods.some(([, values]) => values[name]));
  if (!layers.length) return null;
  const box = h("div", {className: "scroll"}), first = layers.findLast(name => methods.some(([, values]) => values[name]?.judged)) ?? layers.at(-1);
  const draw = layer => {
    const columns = methods.filter(([, values]) => values[layer]), figures = run.figures.filter(figure => columns.some(([, values]) => values[layer][figure.key] !== undefined));
    fill(box, h("table", {className: "results"},
      h("thead", null, h("tr", null, h("th", {scope: "col"}, "metric"), columns.map(([method]) => h("th", {scope: "col", className: "n"}, method)), h("th", {scope: "col"}, "meaning"))),
      h("tbody", null, figures.map(figure => h("tr", null, h("th", {scope: "row"}, figure.heading), columns.map(([method, values]) => h("td", {className: "n"}, columns.length > 1 && values[layer][figure.key] !== undefined ? h("span", {className: "narrow-name soft"}, `${method} `) : null, metricText(figure, values[layer]))), h("td", {className: "soft meaning"}, figure.meaning))))));
  };
  draw(first);
  return section("Results", "in brackets the 95 % interval over units", layers.length > 1 ? h("div", {className: "controls"}, choice("layer", layers, name => name, first, draw)) : null, box);
}

function frequent(run, layer, state) {
  const table = run.main, number = run.layerNumber.get(layer), counts = new Map();
  for (let at = 0; at < table.count; at++) if (table.layer[at] === number && table.top[5 * at] >= 0) counts.set(table.top[5 * at], (counts.get(table.top[5 * at]) ?? 0) + 1);
  const most = [...counts].filter(([, count]) => count > 1).sort((a, b) => b[1] - a[1]).slice(0, 8);
  return most.length ? h("p", {className: "chips"}, h("b", null, layer), most.map(([name, count]) => h("span", null, conceptLink(run.name(name), state), h("span", {className: "soft"}, ` ×${count.toLocaleString("en")}`)))) : null;
}

const OF_A_CONCEPT = 40;  // units of a layer shown at once

function conceptView(main, run, state) {
  const name = state.get("concept") ?? "", numberOf = run.numberOf.get(name) ?? -2, table = run.tables.get(state.get("method")) ?? run.main;
  const place = unpacked(run.concepts.name).indexOf(numberOf), query = run.queries?.find(found => found.words === name);
  const images = query ? Array.from(unpacked(query.pictures)) : place >= 0 ? Array.from(row(unpacked(run.concepts.pictures), place)) : [];
  const cosines = query ? unpacked(query.cosines) : place >= 0 ? row(unpacked(run.concepts.cosines), place) : [];
  const layers = new Map(run.layers.map((_, layer) => [layer, {first: [], five: [], truth: []}]));
  for (let at = 0; at < table.count; at++) {
    const found = layers.get(table.layer[at]), column = table.five(at).indexOf(numberOf);
    if (column === 0) found.first.push(at);
    else if (column > 0) found.five.push(at);
    if (table.truths(at).includes(numberOf)) found.truth.push(at);
  }
  const units = (title, rows) => rows.length ? [h("h3", null, `${title} (${rows.length.toLocaleString("en")})`), h("div", {className: "small-rows"}, rows.slice(0, OF_A_CONCEPT).map(at => smallRow(table, at, state))),
    rows.length > OF_A_CONCEPT ? h("p", null, h("a", {href: href({view: "units", q: `${title.startsWith("first") ? "label" : "top5"}:"${name}"`, layer: run.layers[table.layer[rows[0]]].name, concept: ""}, state)}, "all of them in the list of units")) : null] : [];
  fill(main,
    h("header", {className: "title"}, h("p", {className: "crumbs"}, h("a", {href: href({view: "concepts", concept: ""}, state)}, "concepts"), " / "), h("h1", null, name)),
    images.length ? section("Images with the highest CLIP score", "with the cosine of image and concept",
      h("div", {className: "cards large"}, images.map((image, i) => card(run, image, number(cosines[i], 3))))) : h("p", {className: "soft"}, numberOf === -2 && !query ? "This run has no concept of that name." : "No images were stored for it."),
    query ? asked(run, query, state) : null,
    similarTo(run, place, state),
    [...layers].map(([layer, {first, five, truth}]) => first.length + five.length + truth.length
      ? section(run.layers[layer].name, "", units("first among its concepts", first), units("among the five best", five), units("the truth of", truth)) : null));
  return {};
}

function similarTo(run, place, state) {
  const near = unpacked(run.concepts.near), concepts = unpacked(run.concepts.name);
  return place >= 0 && near?.width ? section("Similar concepts", "the nearest by CLIP's text embeddings, of those that some unit has among its best", h("p", {className: "chips"}, Array.from(row(near, place), other => conceptLink(run.name(concepts[other]), state)))) : null;
}

// Units that match words asked for when the page was made.
function asked(run, query, state) {
  return section("Units matching this phrase best", "rank among all concepts, by the similarity function of the run",
    Object.entries(query.layers).map(([layer, found]) => {
      const units = unpacked(found.units), ranks = unpacked(found.ranks), values = unpacked(found.scores);
      return [h("h3", null, layer), h("div", {className: "small-rows"}, Array.from(units, (unit, i) => smallRow(run.main, run.main.find(run.layerNumber.get(layer), unit), state, `rank ${ranks[i]} · ${number(values[i], 3)}`)))];
    }));
}

function smallRow(table, at, state, note) {
  const run = table.run, layer = run.layers[table.layer[at]].name;
  return h("div", {className: "small-row"},
    h("a", {href: href({view: "unit", of: layer, unit: table.unit[at], concept: "", image: ""}, state)}, `${layer} · ${table.unit[at]}`),
    h("span", {className: "soft"}, verdict(table.right[at]), ` ${note ?? table.label(at)} `, sure(table, at)),
    h("span", {className: "strip"}, strip(run, table, at).slice(0, 5)));
}

function conceptsView(main, run, state) {
  const table = run.tables.get(state.get("method")) ?? run.main, first = new Int32Array(run.names.length), five = new Int32Array(run.names.length);
  for (let at = 0; at < table.count; at++) table.five(at).forEach((name, i) => { (i ? five : first)[name]++; });
  const places = new Map(Array.from(unpacked(run.concepts.name), (name, place) => [name, place]));
  const every = run.names.map((_, name) => name).filter(name => first[name] + five[name] || places.has(name));
  const search = h("input", {type: "search", id: "search", autocomplete: "off", value: state.get("q") ?? "", oninput: () => { change({q: search.value}, {quietly: true}); update(); }});
  let shown = [], mark = null;
  const count = h("p", {className: "count", role: "status"});
  const pick = () => {
    const text = (state.get("q") ?? "").toLowerCase(), key = state.get("sort") || "-first";
    mark = text ? new RegExp(literal(text), "giu") : null;
    const value = {first: name => first[name], five: name => first[name] + five[name], name: name => run.order[name]}[key.replace("-", "")] ?? (name => first[name]);
    const down = key.startsWith("-") ? -1 : 1;
    const close = related(run, text), close_ = name => close.get(name) ?? 0;
    shown = every.filter(name => close.has(name) || run.lowered[name].includes(text)).sort((a, b) => (state.get("sort") ? 0 : close_(b) - close_(a)) || down * (value(a) - value(b)) || run.order[a] - run.order[b]);
    count.textContent = `${shown.length.toLocaleString("en")} of ${every.length.toLocaleString("en")} concepts`;
  };
  pick();
  const open = i => change({view: "concept", concept: run.name(shown[i]), q: "", sort: ""});
  const list = new VirtualList({label: "Concepts", count: shown.length, height: matchMedia("(max-width: 760px)").matches ? 112 : 64, columns: 4, open,
    render: i => h("div", {className: "concept"},
      h("div", {role: "gridcell", className: "t"}, h("a", {className: "name", tabIndex: -1, href: href({view: "concept", concept: run.name(shown[i]), q: "", sort: ""}, state)}, marked(run.name(shown[i]), mark))),
      h("div", {role: "gridcell", className: "n"}, first[shown[i]].toLocaleString("en"), h("span", {className: "soft"}, " top-1")),
      h("div", {role: "gridcell", className: "n"}, (first[shown[i]] + five[shown[i]]).toLocaleString("en"), h("span", {className: "soft"}, " top-5")),
      h("div", {role: "gridcell", className: "pictures"}, places.has(shown[i]) ? Array.from(row(unpacked(run.concepts.pictures), places.get(shown[i])), image => picture(run, image)) : []))});
  function update() { pick(); list.node.scrollTop = 0; list.refresh(shown.length, list.render); }
  const sort = choice("sort by", ["-first", "-five", "name"], key => ({"-first": "units that have it first", "-five": "units that have it among five", name: "name"})[key], state.get("sort") || "-first", value => { change({sort: value}, {quietly: true}); update(); });
  const save = h("button", {type: "button", className: "quiet", onclick: () => download(`concepts-${run.key}.csv`, conceptsCsv(run, shown, first, five), "text/csv")}, "Download CSV");
  fill(main, h("h1", {className: "unseen"}, "Concepts"), h("div", {className: "controls", role: "search"}, h("label", {className: "wide"}, "Search concepts", search), sort, save), h("div", {className: "told"}, count), list.node);
  main.classList.add("filling");
  list.draw();
  return {list, search, open};
}

function conceptsCsv(run, shown, first, five) {
  return csv([["concept", "units_top1", "units_top5"], ...shown.map(name => [run.name(name), first[name], first[name] + five[name]])]);
}

async function pictureView(main, run, state) {
  const index = Number(state.get("image")), at = run.imageIndex.indexOf(index);
  if (at < 0) return missing(main, `Image ${state.get("image")} is not among those that this page holds.`);
  const details = await Promise.all(run.layers.map((_, layer) => run.detail(layer))), main_ = run.main;
  const concepts = Array.from(unpacked(run.concepts.name)).map((name, place) => [name, Array.from(row(unpacked(run.concepts.pictures), place)).indexOf(at)]).filter(([, place]) => place >= 0).sort((a, b) => a[1] - b[1]).slice(0, 12);
  fill(main,
    h("header", {className: "title picture-title"}, wholeImage(run, at),
      h("div", null, h("p", {className: "crumbs"}, `${run.images.probe} · image ${index.toLocaleString("en")}`), h("h1", null, run.images.ids[at]),
        concepts.length ? h("p", {className: "chips"}, h("b", null, "top-scoring image for these concepts"), concepts.map(([name]) => conceptLink(run.name(name), state))) : null)),
    section("Units it excites most", "activation in standard deviations above the unit's mean over the probe set",
      run.layers.map((layer, i) => {
        if (!details[i]?.excited) return amongStrongest(run, i, at, state);
        const units = row(unpacked(details[i].excited), at), above = row(unpacked(details[i].above), at), start = main_.starts[i];
        return [h("h3", null, layer.name), h("div", {className: "small-rows"}, Array.from(units, (unit, k) => smallRow(main_, start + unit, state, `${number(above[k], 3)} σ · ${main_.label(start + unit)}`)))];
      })));
  return {};
}

// The whole image from the folder of the probe set where that lies beside this page; else the middle square of it.
function wholeImage(run, at) {
  const square = () => h("figure", {className: "square"}, picture(run, at, 192), h("figcaption", {className: "soft"}, "the middle square of the image"));
  if (!run.images.link) return square();
  const id = run.images.ids[at], path = [run.images.link, ...id.split("/").map(encodeURIComponent)].join("/");
  const image = h("img", {className: "whole", alt: id, src: new URL(path, new URL(run.home || ".", location.href.split("#")[0])).href, onerror: () => image.replaceWith(square())});
  return image;
}

// Where the activations of all images are not available: the units that have it among their strongest.
function amongStrongest(run, layer, at, state) {
  const array = run.pictures(layer), start = run.main.starts[layer], found = [];
  for (let i = 0; i < array.length && found.length < 24; i++) if (array[i] === at) found.push([Math.floor(i / array.width), i % array.width + 1]);
  return found.length ? [h("h3", null, run.layers[layer].name), h("div", {className: "small-rows"}, found.map(([unit, place]) => smallRow(run.main, start + unit, state, `number ${place} of its strongest · ${run.main.label(start + unit)}`)))] : null;
}
