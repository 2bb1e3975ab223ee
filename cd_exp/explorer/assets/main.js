// State lives in the address, so that every view is a link; keys and the frame around the views.

const VIEWS = {overview: "Overview", units: "Units", concepts: "Concepts", compare: "Compare", sweep: "Sweep", shortlist: "Shortlist"};
const KEYS = [["/", "search"], ["j k", "next, previous row"], ["Enter", "open the row"], ["[ ]", "previous, next unit of the list"], ["h", "overview"], ["u", "units"], ["?", "this help"], ["Esc", "leave the search, close"]];
const runs = new Map();  // what the page says of each run, by its key
const opened = new Map();
let page, sweep, state = new URLSearchParams(), shown = {}, drawing = 0;

function current() { return state; }

// The address of the same view with some of its state changed; an empty value takes a key out.
function href(changes, from = state) {
  const next = new URLSearchParams(from);
  for (const [key, value] of Object.entries(changes)) value === "" || value === undefined || value === null ? next.delete(key) : next.set(key, value);
  return `#${next}`;
}

// Quietly: what was typed changes the address, but neither the history nor the page is made anew.
function change(changes, {quietly = false, before} = {}) {
  if (before) history.replaceState(null, "", href(before));
  if (!quietly) { location.hash = href(changes).slice(1); return; }
  history.replaceState(null, "", href(changes));
  for (const key of [...state.keys()]) state.delete(key);
  for (const [key, value] of new URLSearchParams(location.hash.slice(1))) state.set(key, value);
  frame();
}

function frame() {
  const view = state.get("view") ?? "overview", tab = {unit: "units", concept: "concepts", picture: "units"}[view] ?? view;
  const keep = {of: "", unit: "", image: "", concept: "", at: "", q: "", sort: "", show: "", layer: "", from: "", order: "", similar: ""};
  const tabs = Object.keys(VIEWS).filter(name => (name !== "sweep" || sweep) && (name !== "compare" || [...runs.values()].reduce((sum, run) => sum + run.methods.length, 0) > 1));
  const chooser = runs.size > 1 && h("select", {ariaLabel: "run", onchange: event => change({...keep, run: event.target.value})}, [...runs.keys()].map(key => h("option", {value: key, selected: key === runKey()}, runs.get(key).words)));
  fill(document.getElementById("top"),
    h("nav", {ariaLabel: "Views"}, tabs.map(name => h("a", {href: href({...keep, view: name}), ariaCurrent: name === tab ? "page" : null}, VIEWS[name], name === "shortlist" && picked.length ? ` (${picked.length})` : ""))),
    chooser,
    h("span", {className: "tools"},
      h("button", {type: "button", className: "quiet", title: "light or dark", ariaLabel: "light or dark", onclick: toggle}, "◐"),
      h("button", {type: "button", className: "quiet", title: "keys and search (?)", ariaLabel: "help", onclick: help}, "?")));
}

function runKey() { return runs.has(state.get("run")) ? state.get("run") : runs.keys().next().value; }

async function runOf(key) {
  if (!opened.has(key)) opened.set(key, new Run({...await part(runs.get(key).part), home: runs.get(key).home}));
  return opened.get(key);
}

async function draw() {
  const number = ++drawing;
  state = new URLSearchParams(location.hash.slice(1));
  const main = document.getElementById("main"), view = state.get("view") ?? (sweep ? "sweep" : "overview");
  if (!state.get("view")) state.set("view", view);
  followPicked(state);
  if ((new URLSearchParams(location.hash.slice(1)).get("list") ?? "") !== (state.get("list") ?? "")) history.replaceState(null, "", href({}));
  const fresh = h("main", {id: "main", tabIndex: -1, className: `view-${view}`});
  frame();
  const run = await runOf(runKey());
  if (number !== drawing) return;
  if (state.get("run") && !runs.has(state.get("run"))) shown = missing(fresh, `There is no run ${state.get("run")} in this page.`);
  else {
    const make = {overview: overviewView, units: unitsView, unit: unitView, concepts: conceptsView, concept: conceptView, picture: pictureView, compare: compareView, shortlist: shortlistView, sweep: sweep && ((node, _, at) => sweepView(node, sweep, at, runs))}[view];
    if (["units", "concepts", "compare"].includes(view)) main.replaceWith(fresh);  // a list must be in the document to know its height
    const made = make ? make(fresh, run, state, runs) : missing(fresh, `There is no view ${view}.`);
    shown = await made;
    if (number !== drawing) return;
  }
  document.body.dataset.view = view;
  if (!fresh.isConnected) document.getElementById("main").replaceWith(fresh);
  document.title = `${fresh.querySelector("h1")?.textContent.trim() || VIEWS[view]} · ${page.title}`;
  if (drawing > 1 && !["INPUT", "SELECT"].includes(document.activeElement?.tagName)) (shown.list?.node ?? fresh).focus({preventScroll: true});
  scrollTo(0, 0);
}

function toggle() {
  const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* a browser may keep nothing for local files */ }
}

function help() {
  const dialog = document.getElementById("help");
  fill(dialog, h("h2", {id: "help-title"}, "Keys"), h("dl", {className: "keys"}, KEYS.map(([key, words]) => [h("dt", null, key.split(" ").map(one => h("kbd", null, one))), h("dd", null, words)])),
    h("h2", null, "Search"), h("dl", {className: "keys"}, [
      ["dog", "in label, top five or truth; and units whose label is similar in meaning, the closest first (a box switches that off)"], ["striped cat", "both words, anywhere"], ['"red circle"', "exactly these words"], ["-blue", "without"], ["cat|dog", "either"],
      ["label:cat  top5:cat  truth:cat  general:animal", "in one of them alone"], ["layer:fc  mark:dead  right:no", "of that layer, mark or verdict; layer:blocks.*"], ["rank>5 stability<0.5", "by any column of numbers"]]
      .map(([key, words]) => [h("dt", null, h("code", null, key)), h("dd", null, words)])),
    h("form", {method: "dialog"}, h("button", {autofocus: true}, "Close")));
  dialog.showModal();
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
  const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(event.target.tagName), list = shown.list;
  if (event.key === "Escape" && typing) { event.target.blur(); list?.node.focus(); return; }
  if (typing) return;
  const page_ = list ? Math.max(1, Math.floor(list.node.clientHeight / list.height) - 1) : 0;
  const actions = {
    "/": () => (shown.search ?? document.getElementById("search"))?.focus() ?? (location.hash = href({view: "units", of: "", unit: "", q: ""})),
    j: () => list?.select(list.at + 1), ArrowDown: () => list?.select(list.at + 1),
    k: () => list?.select(Math.max(0, list.at - 1)), ArrowUp: () => list?.select(Math.max(0, list.at - 1)),
    PageDown: () => list?.select(list.at + page_), PageUp: () => list?.select(list.at - page_),
    Home: () => list?.select(0), End: () => list?.select(list.count - 1),
    Enter: () => { if (list && list.at >= 0 && !event.target.closest("a, button")) shown.open(list.at); else return false; },
    "[": () => shown.previous?.(), "]": () => shown.next?.(),
    h: () => { location.hash = href({view: "overview", of: "", unit: "", q: "", sort: "", show: "", at: ""}); },
    u: () => { location.hash = href({view: "units", of: "", unit: ""}); },
    "?": help,
  };
  const moves = ["ArrowDown", "ArrowUp", "PageDown", "PageUp", "Home", "End"];
  if (!actions[event.key] || (moves.includes(event.key) && !list)) return;
  if (actions[event.key]() !== false) event.preventDefault();
}

async function start() {
  try {
    const theme = localStorage.getItem("theme");
    if (theme) document.documentElement.dataset.theme = theme;
  } catch { /* as above */ }
  page = await part("page");
  for (const run of page.runs) runs.set(run.key, run);
  sweep = page.sweep ? await part("sweep") : null;
  addEventListener("hashchange", draw);
  document.addEventListener("keydown", keyed);
  document.getElementById("skip").addEventListener("click", event => { event.preventDefault(); document.getElementById("main").focus(); });
  await draw();
  document.documentElement.dataset.ready = "";
  performance.mark("ready");
}

start().catch(error => fill(document.getElementById("main"), h("h1", null, "This page cannot be shown"), h("p", null, error.message)));
