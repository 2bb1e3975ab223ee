// The jobs of a sweep, and the labels that they give side by side.

function sweepView(main, sweep, state, runs) {
  const heads = sweep.columns, sort = state.get("sort") || "";
  const key = sort.replace(/^-/, ""), down = sort.startsWith("-") ? -1 : 1, column = heads.indexOf(key);
  const rows = [...sweep.rows];
  const compare = new Intl.Collator("en", {numeric: true}).compare;
  if (column >= 0) rows.sort((x, y) => {
    const p = x[column], q = y[column];
    if (p === null || q === null) return (p === null) - (q === null);
    return down * (typeof p === "number" && typeof q === "number" ? p - q : compare(String(p), String(q)));
  });
  const shownColumns = heads.map((_, i) => i).filter(i => !heads[i].endsWith("_low") && !heads[i].endsWith("_high") && sweep.rows.some(row => row[i] !== null));
  const bounds = (row, name) => {
    const low = row[heads.indexOf(name === "top1" ? "ci95_low" : `${name}_ci95_low`)], high = row[heads.indexOf(name === "top1" ? "ci95_high" : `${name}_ci95_high`)];
    return low === undefined || low === null ? "" : ` [${number(low, 3)}, ${number(high, 3)}]`;
  };
  fill(main, h("h1", null, sweep.title),
    section("Jobs", `${sweep.jobs.toLocaleString("en")} jobs, ${sweep.finished.toLocaleString("en")} finished; the axes are ${sweep.axes.join(", ") || "none"}. A click on a heading sorts.`,
      h("div", {className: "scroll"}, h("table", {className: "jobs"},
        h("thead", null, h("tr", null, shownColumns.map(i => h("th", {scope: "col", className: typeof sweep.rows.find(row => row[i] !== null)?.[i] === "number" ? "n" : "", ariaSort: heads[i] === key ? (down > 0 ? "ascending" : "descending") : "none"},
          h("button", {type: "button", onclick: () => change({sort: sort === `-${heads[i]}` ? heads[i] : `-${heads[i]}`})}, heads[i], heads[i] === key ? (down > 0 ? " ▲" : " ▼") : ""))))),
        h("tbody", null, rows.map(row => h("tr", null, shownColumns.map(i => {
          const value = row[i], name = heads[i];
          const text = typeof value === "number" ? number(value) + bounds(row, name) : value ?? "";
          return h("td", {className: typeof value === "number" ? "n" : value === "failed" ? "bad" : ""}, name === "job" && runs.has(String(value)) ? h("a", {href: href({view: "overview", run: value, sort: ""}, state)}, text) : text);
        }))))))),
    sweep.explained.length ? section("What explains the accuracy", "the share of the variance that each axis adds to the others; p of its F test",
      h("div", {className: "scroll"}, h("table", null, h("thead", null, h("tr", null, ["layer", "axis", "levels", "explains", "F", "p"].map((head, i) => h("th", {scope: "col", className: i > 1 ? "n" : ""}, head)))),
        h("tbody", null, sweep.explained.map(part => h("tr", null, h("th", {scope: "row"}, part.layer), h("td", null, part.axis), h("td", {className: "n"}, part.levels ?? ""), h("td", {className: "n"}, part.eta_squared === null ? "" : `${(100 * part.eta_squared).toFixed(1)} %`), h("td", {className: "n"}, number(part.f, 3)), h("td", {className: "n"}, number(part.p, 2)))))))) : null,
    sideBySide(sweep, state, runs));
  return {};
}

const AT_ONCE = 100;

function sideBySide(sweep, state, runs) {
  const votes = sweep.votes;
  if (!votes) return null;
  const names = sweep.names, label = at => at < 0 ? "" : names[at], labels = unpacked(votes.labels), right = unpacked(votes.right), agreement = unpacked(votes.agreement), layer = unpacked(votes.layer), unit = unpacked(votes.unit), consensus = unpacked(votes.consensus), truth = unpacked(votes.truth);
  const wanted = state.get("layer") || sweep.layers.at(-1), text = (state.get("q") ?? "").toLowerCase();
  const rows = [];
  for (let at = 0; at < unit.length; at++) {
    if (sweep.layers[layer[at]] !== wanted) continue;
    if (text && ![consensus[at], truth[at], ...row(labels, at)].some(name => label(name).toLowerCase().includes(text))) continue;
    rows.push(at);
  }
  const least = state.get("order") !== "unit";
  if (least) rows.sort((a, b) => agreement[a] - agreement[b] || unit[a] - unit[b]);
  const from = Math.max(0, Math.min(Number(state.get("from") ?? 0), rows.length - 1)), shown = rows.slice(from, from + AT_ONCE);
  const search = h("input", {type: "search", id: "search", value: state.get("q") ?? "", onchange: () => change({q: search.value, from: ""})});
  return section("Labels side by side", "the consensus is the label that most jobs give; agreement is their share",
    h("div", {className: "controls"}, h("label", {className: "wide"}, "Search labels", search), choice("layer", sweep.layers, name => name, wanted, value => change({layer: value, from: ""})),
      choice("order", ["least", "unit"], name => ({least: "least agreement first", unit: "by unit"})[name], least ? "least" : "unit", value => change({order: value, from: ""}))),
    h("p", {className: "count"}, `${rows.length ? (from + 1).toLocaleString("en") : 0} to ${(from + shown.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")} units `,
      from > 0 ? h("a", {href: href({from: Math.max(0, from - AT_ONCE)}, state)}, "previous") : null, " ", from + AT_ONCE < rows.length ? h("a", {href: href({from: from + AT_ONCE}, state)}, "next") : null),
    h("div", {className: "scroll"}, h("table", {className: "side"},
      h("thead", null, h("tr", null, ["unit", "truth", "consensus", "agreement", ...votes.jobs].map((head, i) => h("th", {scope: "col", className: i === 3 ? "n" : ""}, i > 3 ? sweep.words[i - 4] : head)))),
      h("tbody", null, shown.map(at => h("tr", null, h("th", {scope: "row"}, String(unit[at])), h("td", null, label(truth[at])), h("td", null, label(consensus[at])), h("td", {className: "n"}, `${(100 * agreement[at]).toFixed(0)} %`),
        Array.from(row(labels, at), (name, job) => {
          const known = row(right, at)[job], words = label(name);
          return h("td", {className: name === consensus[at] ? "agrees" : ""}, verdict(known), known < 0 ? "" : " ", runs.has(votes.jobs[job]) ? h("a", {href: href({view: "unit", run: votes.jobs[job], of: wanted.split(" · ").at(-1), unit: unit[at], q: "", layer: "", sort: "", order: "", from: ""}, state)}, words || "–") : words || "–");
        })))))));
}
