// Two methods of a run, or two runs, unit by unit.

async function compareView(main, run, state, runs) {
  const sides = [...runs.values()].flatMap(other => other.methods.map(method => ({run: other.key, method, words: runs.size > 1 ? (other.methods.length > 1 ? `${other.words} · ${method}` : other.words) : method, key: `${other.key}/${method}`})));
  if (sides.length < 2) return missing(main, "There is one method and one run here; compare runs with: python -m cd_exp.report RUN RUN --out DIR");
  const a = sides.find(side => side.key === state.get("a")) ?? sides[0], b = sides.find(side => side.key === state.get("b") && side !== a) ?? sides.find(side => side !== a);
  for (const side of [a, b]) side.table = (await runOf(side.run)).tables.get(side.method);
  const pairs = shared(a.table, b.table), judged = pairs.filter(([, , , x, y]) => x >= 0 && y >= 0);
  const layers = [...new Set(pairs.map(([layer]) => layer))];
  const only = (x, y) => judged.filter(pair => pair[3] === x && pair[4] === y).length;
  const KINDS = {differ: "labels differ", a: `only ${a.words} right`, b: `only ${b.words} right`, all: "all units"};
  const kind = KINDS[state.get("show")] ? state.get("show") : "differ";
  const fits = {differ: pair => pair[5] !== pair[6], a: pair => pair[3] === 1 && pair[4] === 0, b: pair => pair[3] === 0 && pair[4] === 1, all: () => true}[kind];
  const query = parsed(state.get("q") ?? "", a.table), other = a.table.run === b.table.run ? query : parsed(state.get("q") ?? "", b.table);
  const shown = pairs.filter(pair => fits(pair) && (!state.get("layer") || pair[0] === state.get("layer")) && (query.test(pair[1]) || other.test(pair[2])));
  const open = i => change({view: "unit", run: a.table.run.key, method: a.table.method, of: shown[i][0], unit: a.table.unit[shown[i][1]], q: "", show: "", layer: ""});
  const list = new VirtualList({label: "Units of both", count: shown.length, height: matchMedia("(max-width: 760px)").matches ? 132 : 66, columns: 4, open,
    render: i => {
      const [layer, x, y] = shown[i], side = (table, at) => h("div", {role: "gridcell", className: "t"}, h("a", {className: `name${table.isUnsure(at) ? " unsure" : ""}`, tabIndex: -1, href: href({view: "unit", run: table.run.key, method: table.method, of: layer, unit: table.unit[at], q: "", show: "", layer: ""}, state)}, verdict(table.right[at]), " ", table.label(at) ? marked(table.label(at), query.mark) : "(none)"));
      return h("div", {className: "pair"}, h("div", {role: "gridcell", className: "t soft"}, `${layer} · ${a.table.unit[x]}`, a.table.truths(x).length ? h("span", null, ` · ${a.table.truthText(x)}`) : null),
        side(a.table, x), side(b.table, y), h("div", {role: "gridcell", className: "pictures"}, strip(a.table.run, a.table, x).slice(0, 5)));
    }});
  const search = h("input", {type: "search", id: "search", value: state.get("q") ?? "", autocomplete: "off", onchange: () => change({q: search.value})});
  const pick = (label, chosen, name) => choice(label, sides.map(side => side.key), key => sides.find(side => side.key === key).words, chosen.key, value => change({[name]: value}));
  fill(main, h("h1", {className: "unseen"}, "Compare"),
    h("div", {className: "controls"}, pick("first", a, "a"), pick("second", b, "b"),
      choice("show", Object.keys(KINDS), key => KINDS[key], kind, value => change({show: value})),
      choice("layer", ["", ...layers], name => name || "all layers", state.get("layer") ?? "", value => change({layer: value})),
      h("label", {className: "wide"}, "Search", search),
      h("button", {type: "button", className: "quiet", onclick: () => download("compare.csv", pairsCsv(a, b, shown), "text/csv")}, "Download CSV")),
    tests(a, b, pairs, judged, only, layers),
    h("div", {className: "told"}, h("p", {className: "count", role: "status"}, `${shown.length.toLocaleString("en")} of ${pairs.length.toLocaleString("en")} units that both label`)),
    list.node);
  main.classList.add("filling");
  fill(list.head, h("div", {className: "pair", role: "row"}, ["unit · truth", a.words, b.words, "strongest images"].map(head => h("div", {role: "columnheader", className: "t"}, head))));
  list.draw();
  return {list, search, open};
}

// [layer, row of the first, row of the second, right, right, label, label] for every unit that both label.
function shared(first, second) {
  const found = [], run = first.run, other = second.run;
  for (let at = 0; at < first.count; at++) {
    const layer = run.layers[first.layer[at]].name, number = other.layerNumber.get(layer);
    const there = number === undefined ? -1 : second.find(number, first.unit[at]);
    if (there >= 0) found.push([layer, at, there, first.right[at], second.right[there], first.label(at).toLowerCase(), second.label(there).toLowerCase()]);
  }
  return found;
}

function pairsCsv(a, b, pairs) {
  const said = right => ({1: "yes", 0: "no"})[right] ?? "";
  return csv([["layer", "unit", "truth", `label ${a.words}`, `label ${b.words}`, `right ${a.words}`, `right ${b.words}`],
    ...pairs.map(([layer, x, y, p, q]) => [layer, a.table.unit[x], a.table.truthText(x), a.table.label(x), b.table.label(y), said(p), said(q)])]);
}

function tests(a, b, pairs, judged, only, layers) {
  const line = (words, rows) => {
    const known = rows.filter(pair => pair[3] >= 0 && pair[4] >= 0), count = (x, y) => known.filter(pair => pair[3] === x && pair[4] === y).length;
    const both = count(1, 1), first = count(1, 0), second = count(0, 1), same = rows.filter(pair => pair[5] && pair[5] === pair[6]).length, p = pairedP(a, b, words);
    return h("tr", null, h("th", {scope: "row"}, words), h("td", {className: "n"}, percent(same, rows.length)),
      known.length ? [percent(both + first, known.length), percent(both + second, known.length), first, second, both, known.length - both - first - second, p === undefined ? "not tested" : general(p)].map(value => h("td", {className: "n"}, String(value))) : h("td", {colSpan: 7, className: "soft"}, "truth unknown"));
  };
  return h("div", {className: "scroll tests"}, h("table", null,
    h("thead", null, h("tr", null, ["layer", "identical labels", `${a.words} right`, `${b.words} right`, "only A right", "only B right", "both", "neither", "p (McNemar, mid-p)"].map((head, i) => h("th", {scope: "col", className: i ? "n" : ""}, head)))),
    h("tbody", null, layers.map(layer => line(layer, pairs.filter(pair => pair[0] === layer))))),
    legend([{heading: "identical labels", meaning: "units to which both give the same label"}, {heading: "A right, B right", meaning: "units labelled right, of those with known truth"}, {heading: "only A right, only B right", meaning: "units on which one alone is right"}, {heading: "both, neither", meaning: "units on which both are right, or wrong"}, {heading: "p (McNemar, mid-p)", meaning: "how likely so unequal counts of ‘only’ are if both were equally good, on these units"}]),
    layers.some(layer => pairedP(a, b, layer) === undefined && judged.some(pair => pair[0] === layer)) ? h("p", {className: "soft"}, "Not tested when this page was made; ", h("code", null, "python -m cd_exp.report RUN RUN --out DIR"), " tests any two runs.") : null);
}

// The p of the paired test that was made when this was written, as it stands in comparisons.json: of two methods of a run, of
// the best job of a sweep and another, or of runs put on one page. No test is made here.
function pairedP(a, b, layer) {
  const same = a.table.run === b.table.run, key = side => `${side.run}/${side.method}`, jobs = test => [test.first, test.second].map(job => `${job}/${a.table.run.main.method}`);
  const both = (names, sides) => sides.every(side => names.includes(side)), of = tests => (tests ?? []).filter(test => test.layer === layer);
  const stored = same ? of(a.table.run.comparisons).find(test => both([test.first, test.second], [a.method, b.method]))
    : of(page.comparisons).find(test => both([test.first, test.second], [key(a), key(b)])) ?? of(sweep?.comparisons).find(test => both(jobs(test), [key(a), key(b)]));
  return stored?.top1_p;
}
