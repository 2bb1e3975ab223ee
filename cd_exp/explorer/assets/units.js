// The list of all units of a method, searched and sorted, each row with its strongest pictures.

const SHOWN = {all: "all labels", right: "right", wrong: "wrong", unknown: "truth unknown"};
const RIGHT_OF = {right: 1, wrong: 0, unknown: -1};

// The rows that the address asks for, sorted as it says.
function selected(table, state) {
  const text = state.get("q") ?? "", query = parsed(text, table);
  query.related = state.get("similar") === "no" ? new Map() : related(table.run, text);
  const score = new Float32Array(table.run.names.length), labels = table.top;
  for (const [name, vote] of query.related) score[name] = vote;
  const wanted = RIGHT_OF[state.get("show")], layer = table.run.layerNumber.get(state.get("layer"));
  const right = wanted === undefined ? null : table.right, layers = layer === undefined ? null : table.layer;
  // In the order of memory first: of a million units, looked up in the order of the list, it took twice as long.
  const fits = new Uint8Array(table.count), FITS = 1, CLOSE = 2;
  for (let at = 0; at < fits.length; at++) {
    if ((right && right[at] !== wanted) || (layers && layers[at] !== layer)) continue;
    fits[at] = score[labels[5 * at]] > 0 ? CLOSE : query.test(at) ? FITS : 0;
  }
  const sort = state.get("sort"), order = inOrder(table, sort || table.firstSort);
  if (!query.related.size || sort) return {rows: taken(order, fits, FITS, CLOSE), query};
  const close = Array.from(taken(order, fits, CLOSE)), rows = taken(order, fits, FITS);
  close.sort((a, b) => score[labels[5 * b]] - score[labels[5 * a]]);  // the closest in meaning first, of equal ones the most certain
  const both = new Uint32Array(close.length + rows.length);
  both.set(close);
  both.set(rows, close.length);
  return {rows: both, query};
}

// The rows of an order that are of one kind, or of another.
function taken(order, kinds, kind, other = kind) {
  const ofKind = new Uint32Array(order.length);
  let count = 0;
  for (let i = 0; i < order.length; i++) {
    const at = order[i];
    if (kinds[at] === kind || kinds[at] === other) ofKind[count++] = at;
  }
  return ofKind.subarray(0, count);
}

// All rows in an order, sorted once: what is typed then only leaves some out.
function inOrder(table, sort) {
  const key = `order ${sort}`;
  if (!table.columns.has(key)) table.columns.set(key, ordered(Uint32Array.from({length: table.count}, (_, at) => at), table, sort));
  return table.columns.get(key);
}

const SHORT = {similarity: "score", stability: "stability", margin: "margin", rank: "rank", p_right: "p(right)", general_p: "gen. p", general_bits: "bits"};

const COLUMN = {
  layer: "layer of the network", unit: "number of the unit in its layer, from 0", label: "the concept with the highest score; grey and “unsure” where its certainty is below one half", truth: "what the unit is known to be",
  similarity: "score of the label by the similarity function", stability: "share of bootstrap resamples of the images that give the same label", margin: "best − second-best score",
  rank: "rank of the truth among all concepts; 1: the label is right", p_right: "probability that the label is right", general_p: "probability that the general label is right", general_bits: "how much the general label says, in bits",
  "human.rating": "mean rating by people, 1 to 5", "human.fits": "share of ratings by people of at least 4", "human.presence": "correlation of the activation with what people see",
  "human.chosen": "share of people who chose the label", "human.intruder": "share of people who recognised the image that does not belong",
};
const MOST_COLUMNS = 8;  // of numbers that a window of 1280 pixels has room for

const heading_ = key => SHORT[key] ?? key.replace(/^(faithfulness|human)\./, "");

// The columns of numbers that the address asks for; without, as many as there is room for.
function shownColumns(table, state) {
  const asked = state.get("columns");
  return asked ? table.keys.filter(key => asked.split(",").includes(key)) : table.keys.slice(0, MOST_COLUMNS);
}

function unitsView(main, run, state) {
  const table = run.tables.get(state.get("method")) ?? run.main;
  const narrow = matchMedia("(max-width: 760px)").matches;
  let found = selected(table, state);
  const numbers = shownColumns(table, state);
  const withTruth = table.truth.some(number => number >= 0);
  const columns = ["layer", "unit", "label", ...(withTruth ? ["truth"] : []), ...numbers];
  const count = h("p", {className: "count", role: "status"});
  const problem = h("p", {className: "problem", role: "alert"}), similar = h("p", {className: "similar"});
  const meaning = unpacked(run.concepts.near)?.width ? h("label", {className: "check"}, h("input", {type: "checkbox", id: "similar", checked: state.get("similar") !== "no",
    onchange: event => { change({similar: event.target.checked ? "" : "no"}, {quietly: true}); update(); }}), " similar concepts too") : null;

  const search = h("input", {
    type: "search", id: "search", autocomplete: "off", spellcheck: false, value: state.get("q") ?? "",
    placeholder: "stripes -blue layer:fc rank>5", ariaDescribedBy: "search-help",
    oninput: () => { change({q: search.value}, {quietly: true}); update(); },
    onkeydown: event => {
      if (event.key === "Enter" || event.key === "ArrowDown") { event.preventDefault(); list.node.focus(); if (list.at < 0) list.select(0); }
    },
  });
  const layers = choice("layer", ["", ...run.layers.map(layer => layer.name)], name => name || "all layers", state.get("layer") ?? "", value => { change({layer: value}, {quietly: true}); update(); });
  const shown = choice("labels", Object.keys(SHOWN), name => SHOWN[name], state.get("show") ?? "all", value => { change({show: value === "all" ? "" : value}, {quietly: true}); update(); });
  const methods = run.tables.size > 1 && choice("method", [...run.tables.keys()], name => name, table.method, value => change({method: value === run.main.method ? "" : value}));
  const sortBy = choice("sort by", [NETWORK, ...[...columns, ...(table.hasGeneral ? ["general"] : [])].flatMap(key => [key, `-${key}`])].slice(0, 60),
    key => key !== NETWORK ? `${key.replace(/^-/, "")} ${key.startsWith("-") ? "↓" : "↑"}` : "order of the network", state.get("sort") || table.firstSort, value => sortOn(value));
  sortBy.classList.add("narrow-only");

  const list = new VirtualList({
    label: "Units", count: found.rows.length, height: narrow ? 164 : 70, columns: columns.length + 1,
    render: i => unitRow(table, found.rows[i], {mark: found.query.mark, columns, numbers, withTruth, state}),
    open: i => openUnit(table, found.rows[i], state),
  });
  function sortOn(key) {
    change({sort: key}, {quietly: true});
    update();
  }
  const byMeaning = () => !state.get("sort") && found.query.related.size > 0;  // then no column says how the rows are sorted
  function heads() {
    const sort = state.get("sort") || table.firstSort;
    list.head.style.setProperty("--numbers", numbers.length);
    fill(list.head, h("div", {role: "row", className: `unit${withTruth ? "" : " no-truth"}`},
      ...["layer", "unit", "label", "pictures", ...(withTruth ? ["truth"] : []), ...numbers].map(key => {
        const direction = byMeaning() ? "none" : sort === key ? "ascending" : sort === `-${key}` ? "descending" : "none";
        const cell = h("div", {role: "columnheader", className: `${key === "pictures" ? "pictures" : numbers.includes(key) || key === "unit" ? "n" : "t"} c-${key.replaceAll(".", "-")}`});
        if (key === "pictures") cell.append("strongest images");
        else {
          cell.setAttribute("aria-sort", direction);
          // Numbers begin with the largest, words with the first; a third click gives the order of the network again.
          const first = numbers.includes(key) && key !== "rank" ? `-${key}` : key, second = first === key ? `-${key}` : key;
          cell.append(h("button", {type: "button", title: COLUMN[key] ?? null, ariaDescription: COLUMN[key] ?? null, onclick: () => sortOn(sort === first ? second : sort === second ? NETWORK : first)},
            heading_(key), direction === "none" ? "" : direction === "ascending" ? " ▲" : " ▼"));
        }
        return cell;
      })));
  }
  function update() {
    found = selected(table, state);
    list.node.scrollTop = 0;
    list.at = -1;
    list.refresh(found.rows.length, list.render);
    heads();
    tell();
  }
  function tell() {
    const others = [...found.query.related.keys()].filter(name => !run.lowered[name].includes((state.get("q") ?? "").trim().toLowerCase()));
    count.textContent = `${found.rows.length.toLocaleString("en")} of ${table.count.toLocaleString("en")} units`;
    fill(similar, others.length ? [byMeaning() ? "closest in meaning first, with " : "with ", "similar concepts: ", others.slice(0, 6).flatMap((name, i) => [i ? ", " : "", conceptLink(run.name(name), state)]), others.length > 6 ? `, and ${others.length - 6} more` : ""] : "");
    problem.textContent = found.query.problem;
    say(count.textContent);
  }
  const chooser = h("details", {className: "columns-shown", open: state.get("columns") !== null}, h("summary", null, "Columns, and what they mean"),
    h("p", {className: "soft"}, "✓ right · ✗ wrong · grey, “unsure”: p(right), else stability, below 0.5 · ☆ puts the unit on the shortlist. Ticked columns are shown:"),
    table.keys.map(key => h("label", {className: "check", title: COLUMN[key] ?? ""}, h("input", {type: "checkbox", name: key, checked: numbers.includes(key), onchange: () =>
      change({columns: table.keys.filter(name => chooser.querySelector(`[name="${CSS.escape(name)}"]`).checked).join(",") || "none"})}), ` ${heading_(key)}`, COLUMN[key] ? h("span", {className: "soft"}, ` ${COLUMN[key]}`) : null)));
  const save = h("button", {type: "button", className: "quiet", onclick: () => download(`units-${run.key}.csv`, unitsCsv(table, found.rows), "text/csv")}, "Download CSV");
  list.node.style.setProperty("--numbers", numbers.length);
  fill(main,
    h("h1", {className: "unseen"}, "Units"),
    h("div", {className: "controls", role: "search"},
      h("label", {className: "wide"}, "Search labels and truth", search), meaning, layers, shown, methods, sortBy, save, chooser),
    h("p", {id: "search-help", className: "unseen"}, "Words, exact words in quotes, a minus before what must not be there, and columns such as rank>5."),
    h("div", {className: "told"}, count, similar, problem),
    list.node);
  main.classList.add("filling");
  heads();
  tell();
  const at = Number(state.get("at") ?? -1);
  list.draw();
  if (at >= 0) { const i = found.rows.indexOf(at); if (i >= 0) list.select(i); }
  return {list, search, open: i => openUnit(table, found.rows[i], state)};
}

function choice(label, values, words, value, changed) {
  const select = h("select", {onchange: () => changed(select.value)}, values.map(name => h("option", {value: name, selected: name === value}, words(name))));
  return h("label", null, label, select);
}

function openUnit(table, at, state) {
  change({view: "unit", of: table.run.layers[table.layer[at]].name, unit: table.unit[at], at: ""}, {before: {at}});
}

function unitRow(table, at, {mark, columns, numbers, withTruth, state}) {
  const run = table.run, layer = table.layer[at], five = table.five(at), marks = table.marksOf(at);
  const cell = (name, ...content) => h("div", {role: "gridcell", className: name}, ...content);
  const address = href({view: "unit", of: run.layers[layer].name, unit: table.unit[at], at: ""}, state);
  return h("div", {className: `unit${withTruth ? "" : " no-truth"}`},
    cell("t c-layer", run.layers[layer].name),
    cell("n c-unit", pickButton(table, at), String(table.unit[at])),
    cell("t c-label",
      h("a", {className: `name${table.isUnsure(at) ? " unsure" : ""}`, href: address, tabIndex: -1}, verdict(table.right[at]), " ", five.length ? marked(run.name(five[0]), mark) : "(none)"),
      h("span", {className: "soft next"}, five.slice(1).flatMap((name, i) => [i ? " · " : "", marked(run.name(name), mark)])),
      table.general[at] >= 0 ? h("span", {className: "soft general"}, `in general: ${run.name(table.general[at])}`) : null,
      h("span", {className: "badges"}, sure(table, at), marks.map(name => h("span", {className: "badge"}, name.replaceAll("_", " "))))),
    cell("pictures", strip(run, table, at)),
    withTruth ? cell("t c-truth", marked(table.truthText(at), mark)) : null,
    numbers.map(key => cell(`n c-${key.replaceAll(".", "-")}`, columnText(key, table.numbers(key)[at]))));
}

// Shares and probabilities with two digits, as everywhere; other numbers with three that count.
function columnText(key, value) {
  return Number.isNaN(value) ? "" : ["stability", "p_right", "general_p"].includes(key) ? fixed(value, 2) : number(value, 3);
}

function strip(run, table, at) {
  const layer = table.layer[at], array = run.pictures(layer), place = placeOf(run, layer, table.unit[at]);
  return place < 0 || !array.width ? [] : Array.from(row(array, place), image => picture(run, image));
}

// The row of a unit among the units of its layer, for what is stored once for all methods.
function placeOf(run, layer, unit) {
  const at = run.main.find(layer, unit);
  return at < 0 ? -1 : run.main.place(at);
}

function unitsCsv(table, rows) {
  const run = table.run, text = [["layer", "unit", "label", ...(table.hasGeneral ? ["general_label"] : []), "top5", "truth", "right", ...table.keys, "marks"]];
  for (const at of rows) {
    const right = {1: "yes", 0: "no"}[table.right[at]] ?? "";
    text.push([run.layers[table.layer[at]].name, table.unit[at], table.label(at), ...(table.hasGeneral ? [run.name(table.general[at])] : []), table.five(at).map(name => run.name(name)).join("; "),
      table.truthText(at), right, ...table.keys.map(key => table.numbers(key)[at]), table.marksOf(at).join(" ")]);
  }
  return csv(text);
}
