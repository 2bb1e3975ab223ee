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
  const filledColumns = heads.map((_, i) => i).filter(i => !heads[i].endsWith("_low") && !heads[i].endsWith("_high") && sweep.rows.some(row => row[i] !== null));
  const asked = state.get("jobs")?.split(","), shownColumns = filledColumns.filter(i => (asked ? asked.includes(heads[i]) : isShownFirst(sweep, heads[i], i)));
  const plain = name => name.split("/").at(-1), figure = name => sweep.figures[plain(name)];
  const heading = name => (figure(name) ? [...name.split("/").slice(0, -1), figure(name).heading].join(" ") : name);
  const written = (name, value) => figure(name) && typeof value === "number" ? fixed(value, figure(name).digits) : number(value);
  const bounds = (row, name) => {
    const interval = plain(name) === "top1" ? name.replace(/top1$/, "ci95") : `${name}_ci95`;
    const low = row[heads.indexOf(`${interval}_low`)], high = row[heads.indexOf(`${interval}_high`)];
    return low === undefined || low === null ? "" : ` [${written(name, low)}, ${written(name, high)}]`;
  };
  fill(main, h("h1", null, sweep.title),
    section("Jobs", `${sweep.jobs.toLocaleString("en")} jobs, ${sweep.finished.toLocaleString("en")} finished; ${sweep.axes.length > 1 ? "the axes are" : "the axis is"} ${sweep.axes.join(", ") || "none"}. A click on a heading sorts.`,
      h("p", null, h("button", {type: "button", className: "quiet", onclick: () => download("sweep.csv", csv([heads, ...rows]), "text/csv")}, "Download CSV")),
      jobColumns(filledColumns.map(i => ({key: heads[i], words: heading(heads[i]), meaning: figure(heads[i])?.meaning, shown: shownColumns.includes(i)}))),
      h("div", {className: "scroll"}, h("table", {className: "jobs"},
        h("thead", null, h("tr", null, shownColumns.map(i => h("th", {scope: "col", className: typeof sweep.rows.find(row => row[i] !== null)?.[i] === "number" ? "n" : "", ariaSort: heads[i] === key ? (down > 0 ? "ascending" : "descending") : "none"},
          h("button", {type: "button", onclick: () => change({sort: sort === `-${heads[i]}` ? heads[i] : `-${heads[i]}`})}, heading(heads[i]), heads[i] === key ? (down > 0 ? " ▲" : " ▼") : ""))))),
        h("tbody", null, rows.map(row => h("tr", null, shownColumns.map(i => {
          const value = row[i], name = heads[i];
          const text = typeof value === "number" ? written(name, value) + bounds(row, name) : value ?? "";
          return h("td", {className: typeof value === "number" ? "n" : value === "failed" ? "bad" : ""}, name === "job" && runs.has(String(value)) ? h("a", {href: href({view: "overview", run: value, sort: ""}, state)}, text) : text);
        }))))))),
    bestJob(sweep, runs, state),
    sweep.explained.length ? section("What explains the accuracy", "the share of the variance that each axis adds to the others; p of its F test, and p by Holm over the axes",
      h("div", {className: "scroll"}, h("table", null, h("thead", null, h("tr", null, ["layer", "axis", "levels", "variance explained (η²)", "df", "F", "p", "Holm"].map((head, i) => h("th", {scope: "col", className: i > 1 ? "n" : ""}, head)))),
        h("tbody", null, sweep.explained.map(part => h("tr", null, h("th", {scope: "row"}, part.layer), h("td", null, part.axis), [part.levels ?? "", part.separable === false ? "not separable" : typeof part.eta_squared === "number" ? `${fixed(100 * part.eta_squared, 1)} %` : "", part.df, typeof part.f === "number" ? fixed(part.f, 2) : "", ...[part.p, part.p_adjusted].map(p => (typeof p === "number" ? general(p) : ""))].map(value => h("td", {className: "n"}, value))))))),
      h("ul", {className: "notes"}, sweep.notes.map(note => h("li", null, note)))) : null,
    sideBySide(sweep, state, runs));
  return {};
}

// Columns of a job that a window of 1280 pixels has room for: what it was, and the first numbers.
const FIRST_NUMBERS = ["top1", "top5", "stability_median", "stable_share", "p_right_mean"];

function isShownFirst(sweep, name, column) {
  if (name === "status") return sweep.rows.some(row => row[column] !== "ok");
  return ["job", "layer", "reason", ...sweep.axes, ...FIRST_NUMBERS].includes(name);
}

// Which columns the table of jobs has, and what their headings mean.
function jobColumns(columns) {
  const box = h("details", {className: "columns-shown", open: current().get("jobs") !== null}, h("summary", null, "Columns, and what they mean"), columns.map(({key, words, meaning, shown}) =>
    h("label", {className: "check"}, h("input", {type: "checkbox", name: key, checked: shown, onchange: () => change({jobs: columns.map(column => column.key).filter(name => box.querySelector(`[name="${CSS.escape(name)}"]`).checked).join(",") || "none"})}), ` ${words}`, meaning ? h("span", {className: "soft"}, ` ${meaning}`) : null)));
  return box;
}

// The job of highest top-1 minus each other, by the tests in comparisons.json.
function bestJob(sweep, runs, state) {
  if (!sweep.comparisons?.length) return null;
  const words = job => { const at = sweep.votes.jobs.indexOf(job); return at < 0 ? job : `${job} (${sweep.votes.words[at]})`; };
  const signed = value => (value >= 0 ? "+" : "") + fixed(value, sweep.figures.top1.digits), p = value => (value === undefined ? "" : general(value));
  return section("The best job against the others", "top-1 of the best job minus the other's on the same units, with the 95 % interval; p of McNemar's test, and p by Holm over all these tests. The best job was chosen on these units, so its lead over jobs close to it is overestimated.",
    h("div", {className: "scroll"}, h("table", {className: "best"}, h("thead", null, h("tr", null, ["layer", "best job", "other job", "top-1 difference [95 %]", "p", "Holm", "units"].map((head, i) => h("th", {scope: "col", className: i > 2 ? "n" : ""}, head)))),
      h("tbody", null, sweep.comparisons.map(test => h("tr", null, h("th", {scope: "row"}, test.model ? `${test.model} · ${test.layer}` : test.layer), h("td", null, words(test.first)), h("td", null, words(test.second)),
        [signed(test.top1_difference) + (test.top1_difference_ci95 ? ` [${test.top1_difference_ci95.map(signed).join(", ")}]` : ""), p(test.top1_p), p(test.top1_p_adjusted), test.top1_n].map(value => h("td", {className: "n"}, String(value)))))))));
}

const AT_ONCE = 100;

function sideBySide(sweep, state, runs) {
  if (!sweep.layers.length) return null;
  const layer = sweep.layers.find(found => found.words === state.get("layer")) ?? sweep.layers.at(-1), {jobs, words} = sweep.votes;
  const [labels, right, agreement, unit, consensus, truth] = ["labels", "right", "agreement", "unit", "consensus", "truth"].map(key => unpacked(layer[key]));
  const name = number => number < 0 ? "" : sweep.names[number], text = (state.get("q") ?? "").toLowerCase();
  const rows = Array.from(unit, (_, at) => at).filter(at => !text || [consensus[at], truth[at], ...row(labels, at)].some(number => name(number).toLowerCase().includes(text)));
  const least = state.get("order") !== "unit";
  if (least) rows.sort((a, b) => agreement[a] - agreement[b] || unit[a] - unit[b]);
  const from = Math.max(0, Math.min(Number(state.get("from") ?? 0), rows.length - 1)), shown = rows.slice(from, from + AT_ONCE);
  const search = h("input", {type: "search", id: "search", value: state.get("q") ?? "", onchange: () => change({q: search.value, from: ""})});
  const cell = (at, number, job) => {
    const verdictOf = verdict(row(right, at)[job]), link = {view: "unit", run: jobs[job], of: layer.layer, unit: unit[at], q: "", layer: "", sort: "", order: "", from: ""};
    return h("td", {className: number === consensus[at] ? "agrees" : ""}, verdictOf, verdictOf ? " " : "", runs.has(jobs[job]) ? h("a", {href: href(link, state)}, name(number) || "–") : name(number) || "–");
  };
  return section("Labels side by side", "shaded: the consensus, the label that most jobs give; agreement is their share",
    h("div", {className: "controls"}, h("label", {className: "wide"}, "Search labels", search),
      choice("layer", sweep.layers.map(found => found.words), found => found, layer.words, value => change({layer: value, from: ""})),
      choice("order", ["least", "unit"], key => ({least: "least agreement first", unit: "by unit"})[key], least ? "least" : "unit", value => change({order: value, from: ""}))),
    h("p", {className: "count"}, `${rows.length ? (from + 1).toLocaleString("en") : 0} to ${(from + shown.length).toLocaleString("en")} of ${rows.length.toLocaleString("en")} units `,
      from > 0 ? h("a", {href: href({from: Math.max(0, from - AT_ONCE)}, state)}, "previous") : null, " ", from + AT_ONCE < rows.length ? h("a", {href: href({from: from + AT_ONCE}, state)}, "next") : null),
    h("div", {className: "scroll"}, h("table", {className: "side"},
      h("thead", null, h("tr", null, ["unit", "truth", "consensus", "agreement", ...words].map((head, i) => h("th", {scope: "col", className: i === 3 ? "n" : "", title: i > 3 ? `job ${jobs[i - 4]}` : null}, head)))),
      h("tbody", null, shown.map(at => h("tr", null, h("th", {scope: "row"}, String(unit[at])), h("td", null, name(truth[at])), h("td", null, name(consensus[at])), h("td", {className: "n"}, `${(100 * agreement[at]).toFixed(0)} %`),
        Array.from(row(labels, at), (number, job) => cell(at, number, job))))))));
}
