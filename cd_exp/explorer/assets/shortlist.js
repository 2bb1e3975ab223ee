// Units picked on any page, kept in the address as `list=layer:unit,layer:unit`: every link to the page carries them.

let picked = [];  // [layer, unit], in the order picked
const earlier = new Set([""]);  // what `list` said before: links drawn then are followed with what is picked by now

const pickedText = () => picked.map(([layer, unit]) => `${encodeURIComponent(layer)}:${unit}`).join(",");

function readPicked(text) {
  return text.split(",").filter(Boolean).map(item => {
    const at = item.lastIndexOf(":");
    return [decodeURIComponent(item.slice(0, at)), Number(item.slice(at + 1))];
  }).filter(([layer, unit]) => layer && Number.isInteger(unit));
}

// The list of an address: of another person it is taken over, of a link on this page it is what is picked by now.
function followPicked(state) {
  const text = state.get("list") ?? "";
  if (earlier.has(text)) { const now = pickedText(); now ? state.set("list", now) : state.delete("list"); }
  else picked = readPicked(text);
  earlier.add(state.get("list") ?? "");
}

const isPicked = (layer, unit) => picked.some(([name, number]) => name === layer && number === unit);

function pickButton(table, at) {
  const layer = table.run.layers[table.layer[at]].name, unit = table.unit[at], button = h("button", {type: "button", className: "quiet pick"});
  const show = () => {
    const on = isPicked(layer, unit), words = on ? "remove from the shortlist" : "add to the shortlist";
    fill(button, on ? "★" : "☆");
    button.title = words;
    button.setAttribute("aria-label", `${words}: ${layer} unit ${unit}`);
    button.setAttribute("aria-pressed", on ? "true" : "false");
  };
  button.addEventListener("click", event => {
    event.stopPropagation();
    picked = isPicked(layer, unit) ? picked.filter(([name, number]) => name !== layer || number !== unit) : [...picked, [layer, unit]];
    change({list: pickedText()}, {quietly: true});
    earlier.add(pickedText());
    show();
    say(`${picked.length} units in the shortlist`);
  });
  show();
  return button;
}

function shortlistView(main, run, state) {
  const table = run.tables.get(state.get("method")) ?? run.main;
  const rows = picked.map(([layer, unit]) => run.layerNumber.has(layer) ? table.find(run.layerNumber.get(layer), unit) : -1), known = rows.filter(at => at >= 0);
  const link = h("input", {type: "text", id: "list-link", readOnly: true, value: location.href, onfocus: event => event.target.select()});
  const copy = h("button", {type: "button", onclick: () => { link.select(); navigator.clipboard?.writeText(link.value).then(() => { copy.textContent = "Copied"; }, () => document.execCommand("copy")); }}, "Copy link");
  if (!picked.length) {
    fill(main, h("h1", null, "Shortlist"), h("p", null, "Nothing is picked yet. The star beside a unit, in the list of units and on its page, adds it; the address of the page then holds the list, to be sent as a link or saved as CSV."));
    return {};
  }
  fill(main, h("h1", null, "Shortlist"),
    h("p", {className: "count", role: "status"}, `${picked.length.toLocaleString("en")} units${known.length < picked.length ? `, of which ${known.length.toLocaleString("en")} are in this run` : ""}`),
    h("div", {className: "controls"}, h("label", {className: "wide"}, "Link to this list, beside the page it was made on", link), copy,
      h("button", {type: "button", onclick: () => download(`shortlist-${run.key}.csv`, unitsCsv(table, known), "text/csv")}, "Download CSV")),
    h("div", {className: "scroll"}, h("table", {className: "shortlist"},
      h("thead", null, h("tr", null, ["", "unit", "label", "truth", "strongest images"].map(head => h("th", {scope: "col"}, head)))),
      h("tbody", null, known.map(at => {
        const layer = run.layers[table.layer[at]].name, label = table.label(at);
        return h("tr", null, h("td", null, pickButton(table, at)),
          h("th", {scope: "row"}, h("a", {href: href({view: "unit", of: layer, unit: table.unit[at]}, state)}, `${layer} · ${table.unit[at]}`)),
          h("td", null, verdict(table.right[at]), " ", h("span", {className: table.isUnsure(at) ? "unsure" : ""}, label ? conceptLink(label, state) : "(none)"), " ", sure(table, at)),
          h("td", null, table.truthText(at)), h("td", null, h("span", {className: "strip"}, strip(run, table, at).slice(0, 5))));
      })))));
  return {};
}
