// What is typed into the search field, as a test of units.
//
//   stripes "red circle" -blue    words that must, exact words, words that must not stand in label, top five or truth
//   cat|dog                       either
//   label:cat  top5:cat  truth:cat  general:animal    in one of them alone
//   layer:fc   mark:dead   right:no   rank>5   stability<0.5   unit=12

const TERM = /(-?)(?:(label|top5|truth|general|layer|mark|right):)?(?:"([^"]*)"?|(\S+))/gi;
const COMPARISON = /^([a-z_][\w.]*)(<=|>=|!=|<|>|=)([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)$/i;
const RIGHT = {yes: 1, right: 1, true: 1, no: 0, wrong: 0, false: 0, unknown: -1};

function literal(text) { return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"); }

function glob(text) { return new RegExp(`^${text.split("*").map(literal).join(".*")}$`, "i"); }

// A pattern for words anywhere in a name or, exactly as they were written, between the ends of words.
function pattern(text, exact) {
  const found = exact ? literal(text) : text.split("|").filter(Boolean).map(literal).join("|");
  return exact ? `(?<![\\p{L}\\p{N}])(?:${found})(?![\\p{L}\\p{N}])` : found;
}

// Names by how close in meaning they are to plain words: {number: score, best first}. Every concept named so, as a whole word
// if any is, votes for itself and for the concepts that the run stored as similar to it, the nearest with most weight.
// "dog" finds breeds by "Maltese dog" and "Eskimo dog", and leaves "hotdog" behind, which has no other vote.
const RELATED = 40, LEAST_VOTE = 0.05;

function related(run, text) {
  const near = unpacked(run.concepts.near), terms = text.trim().toLowerCase();
  if (!near?.width || !terms || /["|:<>=]|(^|\s)-/.test(terms)) return new Map();
  const concepts = unpacked(run.concepts.name), whole = new RegExp(pattern(terms, true), "iu");
  const named = Array.from(concepts.keys()).filter(at => run.lowered[concepts[at]].includes(terms));
  const exact = named.filter(at => whole.test(run.name(concepts[at]))), seeds = exact.length ? exact : named, votes = new Map();
  for (const at of seeds) {
    votes.set(at, (votes.get(at) ?? 0) + 1);
    row(near, at).forEach((other, rank) => votes.set(other, (votes.get(other) ?? 0) + 1 - (rank + 1) / (near.width + 1)));
  }
  const found = [...votes].filter(([, vote]) => vote >= LEAST_VOTE * seeds.length).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
  return new Map(found.slice(0, RELATED).map(([at, vote]) => [concepts[at], vote]));
}

// {test: row => bool, mark: pattern of what matched, problem: what is not understood}
function parsed(text, table) {
  const tests = [], marks = [], problems = [];
  for (const [, minus, scope, quoted, plain] of text.matchAll(TERM)) {
    const value = quoted ?? plain;
    if (!value) continue;
    const comparison = !scope && quoted === undefined && value.match(COMPARISON);
    const test = comparison ? compared(comparison, table, problems)
      : scope && !["label", "top5", "truth", "general"].includes(scope.toLowerCase()) ? field(scope.toLowerCase(), value, table, problems)
      : words(value, quoted !== undefined, scope?.toLowerCase(), table, minus ? null : marks);
    if (test) tests.push(minus ? at => !test(at) : test);
  }
  return {
    test: !tests.length ? () => true : tests.length === 1 ? tests[0] : at => tests.every(test => test(at)),
    mark: marks.length ? new RegExp(marks.join("|"), "giu") : null,
    problem: problems[0] ?? "",
  };
}

function compared([, key, sign, digits], table, problems) {
  const known = ["unit", ...table.keys];
  const wanted = known.find(name => name.toLowerCase() === key.toLowerCase())
    ?? known.find(name => name.toLowerCase().endsWith(`.${key.toLowerCase()}`));
  if (!wanted) {
    problems.push(`There is no column ${key}; there are ${known.join(", ")}.`);
    return null;
  }
  const values = table.numbers(wanted), limit = Number(digits);
  return {
    "<": at => values[at] < limit, ">": at => values[at] > limit,
    "<=": at => values[at] <= limit, ">=": at => values[at] >= limit,
    "=": at => values[at] === Math.fround(limit), "!=": at => !Number.isNaN(values[at]) && values[at] !== Math.fround(limit),
  }[sign];
}

function field(scope, value, table, problems) {
  const run = table.run;
  if (scope === "layer") {
    const wanted = value.split("|").map(text => text.toLowerCase());
    const fits = run.layers.map(({name}) => wanted.some(text =>
      glob(text).test(name) || name.toLowerCase().startsWith(`${text}.`) || name.toLowerCase().startsWith(`${text}:`)));
    if (!fits.some(Boolean)) problems.push(`There is no layer ${value}; there are ${run.layers.slice(0, 12).map(layer => layer.name).join(", ")}.`);
    return at => fits[table.layer[at]];
  }
  if (scope === "mark") {
    const bits = value.toLowerCase().split("|").map(text => run.marks.indexOf(text));
    if (bits.includes(-1)) problems.push(`There is no mark ${value}; there are ${run.marks.join(", ")}.`);
    return at => bits.some(bit => bit >= 0 && table.marks[at] >> bit & 1);
  }
  const wanted = RIGHT[value.toLowerCase()];
  if (wanted === undefined) problems.push("right: is followed by yes, no or unknown.");
  return at => table.right[at] === wanted;
}

// Which names match is found once; then each unit is a look at six numbers.
function words(value, exact, scope, table, marks) {
  const source = pattern(value, exact);
  if (!source) return null;
  marks?.push(source);
  const matcher = new RegExp(source, "iu"), names = table.run.names;
  const plain = !exact && !value.includes("|") ? value.toLowerCase() : null;
  const hit = new Uint8Array(names.length);
  if (plain) table.run.lowered.forEach((name, number) => { hit[number] = name.includes(plain) ? 1 : 0; });
  else names.forEach((name, number) => { hit[number] = matcher.test(name) ? 1 : 0; });
  if (scope === "general") { const general = table.general; return at => general[at] >= 0 && Boolean(hit[general[at]]); }
  const top = table.top, truth = table.truth, width = table.truthWidth, last = scope === "label" ? 1 : 5;
  return at => {
    if (scope !== "truth") for (let i = 5 * at; i < 5 * at + last; i++) if (top[i] >= 0 && hit[top[i]]) return true;
    if (scope === "label" || scope === "top5") return false;
    for (let i = width * at; i < width * (at + 1); i++) if (truth[i] >= 0 && hit[truth[i]]) return true;
    return false;
  };
}

// The rows in the order asked for, empty values last; `-key` is descending.
function ordered(rows, table, sort) {
  const down = sort.startsWith("-") ? -1 : 1, key = sort.replace(/^-/, "");
  const run = table.run, values = new Float64Array(table.count).fill(NaN);
  if (!key || key === NETWORK || key === "layer") { if (down > 0) return rows; rows.forEach(at => { values[at] = table.layer[at]; }); }
  else if (key === "label" || key === "truth" || key === "general") {
    const names = key === "label" ? at => table.top[5 * at] : key === "general" ? at => table.general[at] : at => table.truth[table.truthWidth * at];
    for (const at of rows) { const name = names(at); if (name >= 0) values[at] = run.order[name]; }
  } else if (key === "right") { for (const at of rows) if (table.right[at] >= 0) values[at] = table.right[at]; }
  else { const column = table.numbers(key); for (const at of rows) values[at] = column[at]; }
  const known = rows.filter(at => !Number.isNaN(values[at])), empty = rows.filter(at => Number.isNaN(values[at]));
  const found = new Uint32Array(rows.length);
  found.set(sorted(known, values, down < 0));
  found.set(empty, known.length);
  return found;
}

// Rows by their values, in single precision, and of equal ones by their number. Both are packed into one whole number, which
// a typed array sorts without asking a function: a million units in a tenth of the time.
function sorted(rows, values, descending) {
  const packed = new Uint32Array(2 * rows.length), single = new Float32Array(1), bits = new Uint32Array(single.buffer);
  for (let i = 0; i < rows.length; i++) {
    single[0] = values[rows[i]] + 0;  // no minus zero
    const key = bits[0] & 0x80000000 ? ~bits[0] : bits[0] | 0x80000000;  // in the order of the values, as a whole number
    packed[2 * i] = rows[i];
    packed[2 * i + 1] = descending ? ~key : key;
  }
  new BigUint64Array(packed.buffer).sort();
  return rows.map((_, i) => packed[2 * i]);
}
