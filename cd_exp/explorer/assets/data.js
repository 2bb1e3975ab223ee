// What the pages show: parts by name, inside this file or beside it, decoded when they are first looked at.

const received = new Map();
const waiting = new Map();
window.explorer = {receive: (name, value) => received.set(name, value)};

function inside(name) {
  return document.querySelector(`script[data-part="${CSS.escape(name)}"]`);
}

function part(name) {
  if (received.has(name)) return Promise.resolve(received.get(name));
  const element = inside(name);
  if (element) {
    received.set(name, JSON.parse(element.textContent));
    return Promise.resolve(received.get(name));
  }
  if (!waiting.has(name)) {
    waiting.set(name, new Promise((resolve, reject) => {
      const script = h("script", {src: `data/${encodeURIComponent(name)}.js`});
      script.addEventListener("load", () => resolve(received.get(name)));
      script.addEventListener("error", () => reject(new Error(`data/${name}.js is missing beside this page`)));
      document.head.append(script);
    }));
  }
  return waiting.get(name);
}

const ARRAYS = {u1: Uint8Array, i1: Int8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array, f4: Float32Array};

function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const binary = atob(text), found = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) found[i] = binary.charCodeAt(i);
  return found;
}

// A typed array with `width`: how many values each row has.
function unpacked(packed) {
  if (!packed) return null;
  if (packed.array) return packed.array;
  const array = new ARRAYS[packed.type](bytes(packed.data).buffer);
  array.width = packed.shape.slice(1).reduce((a, b) => a * b, 1);
  packed.array = array;
  delete packed.data;
  return array;
}

const row = (array, at) => array.subarray(at * array.width, (at + 1) * array.width);

// One run: its names, images and concepts, and for each method one table over all layers.
class Run {
  constructor(raw) {
    Object.assign(this, raw);
    this.layerNumber = new Map(raw.layers.map((layer, number) => [layer.name, number]));
    this.tables = new Map(raw.methods.map(method => [method.name, new Table(this, method)]));
    this.imageIndex = unpacked(raw.images.index);
  }
  get main() { return this.tables.values().next().value; }
  name(number) { return number < 0 ? "" : this.names[number]; }
  get lowered() { return this._lowered ??= this.names.map(name => name.toLowerCase()); }
  get numberOf() { return this._numberOf ??= new Map(this.names.map((name, number) => [name, number])); }
  // Where each name stands in the order of the alphabet, so that sorting compares numbers.
  get order() {
    if (!this._order) {
      const collator = new Intl.Collator("en", {numeric: true});
      const sorted = this.names.map((_, number) => number).sort((a, b) => collator.compare(this.names[a], this.names[b]));
      this._order = new Int32Array(this.names.length);
      sorted.forEach((number, place) => { this._order[number] = place; });
    }
    return this._order;
  }
  pictures(layer) { return unpacked(this.layers[layer].pictures); }
  // What only the page of one unit shows; nothing where that is left to a page of the run's own.
  detail(layer) { return this.layers[layer].detail ? part(this.layers[layer].detail) : Promise.resolve(null); }
}

const NETWORK = "network";  // the order of the network

// The labels of one method: columns over the units of all its layers, one after the other.
class Table {
  constructor(run, raw) {
    this.run = run;
    this.method = raw.name;
    this.layers = Object.entries(raw.layers).filter(([name]) => run.layerNumber.has(name));
    this.starts = [];
    this.count = 0;
    for (const [, layer] of this.layers) {
      this.starts.push(this.count);
      this.count += layer.units.shape[0];
    }
    this.keys = [...new Set(this.layers.flatMap(([, layer]) => Object.keys(layer.numbers)))];
    this.columns = new Map();
  }
  joined(key, make, get) {
    if (!this.columns.has(key)) {
      const found = make(this.count);
      this.layers.forEach(([name, layer], number) => {
        const values = get(layer, name);
        if (values) found.set(values, this.starts[number] * (found.length / Math.max(1, this.count)));
      });
      this.columns.set(key, found);
    }
    return this.columns.get(key);
  }
  get layer() {  // the number of each unit's layer in the run
    return this.joined("layer", n => new Uint16Array(n), (layer, name) =>
      new Uint16Array(layer.units.shape[0]).fill(this.run.layerNumber.get(name)));
  }
  get unit() { return this.joined("unit", n => new Int32Array(n), layer => unpacked(layer.units)); }
  get top() { return this.joined("top", n => new Int32Array(n * 5).fill(-1), layer => unpacked(layer.top)); }
  // The accepted names of each unit, `truthWidth` numbers in a row, -1 where there are fewer.
  get truth() {
    if (!this.columns.has("truth")) {
      const width = this.truthWidth, found = new Int32Array(width * this.count).fill(-1);
      this.layers.forEach(([, layer], number) => {
        const names = unpacked(layer.truth), own = layer.truth.shape[1];
        for (let i = 0; i < names.length; i++) found[width * (this.starts[number] + Math.floor(i / own)) + i % own] = names[i];
      });
      this.columns.set("truth", found);
    }
    return this.columns.get("truth");
  }
  get truthWidth() { return Math.max(1, ...this.layers.map(([, layer]) => layer.truth.shape[1])); }
  truths(at) { return Array.from(this.truth.subarray(this.truthWidth * at, this.truthWidth * (at + 1))).filter(name => name >= 0); }
  truthText(at) { return this.truths(at).map(name => this.run.name(name)).join("; "); }
  get right() { return this.joined("right", n => new Int8Array(n), layer => unpacked(layer.right)); }
  get marks() { return this.joined("marks", n => new Uint16Array(n), layer => unpacked(layer.marks)); }
  numbers(key) {
    if (key === "unit") return this.unit;
    return this.joined(`numbers ${key}`, n => new Float32Array(n).fill(NaN), layer => unpacked(layer.numbers[key]));
  }
  // The number of each unit's general label, -1 where there is none.
  get general() { return this.joined("general", n => new Int32Array(n).fill(-1), layer => layer.general && unpacked(layer.general)); }
  get hasGeneral() { return this.layers.some(([, layer]) => layer.general); }
  // What the list begins with: the labels most to be believed.
  get firstSort() { return this.keys.includes("p_right") ? "-p_right" : this.keys.includes("stability") ? "-stability" : NETWORK; }
  // How far labels can be trusted: the probability that they are right, else their stability; "" without either.
  get certaintyKey() { return ["p_right", "stability"].find(key => this.keys.includes(key)) ?? ""; }
  certainty(at) { return this.certaintyKey ? this.numbers(this.certaintyKey)[at] : NaN; }
  isUnsure(at) { return this.certainty(at) < 0.5; }
  label(at) { return this.run.name(this.top[5 * at]); }
  five(at) { return Array.from(this.top.subarray(5 * at, 5 * at + 5)).filter(number => number >= 0); }
  has(at, mark) { return Boolean(this.marks[at] >> this.run.marks.indexOf(mark) & 1); }
  marksOf(at) { return this.run.marks.filter(mark => this.has(at, mark)); }
  // Where a unit stands in this table, or -1.
  find(layer, unit) {
    const number = this.layers.findIndex(([name]) => this.run.layerNumber.get(name) === layer);
    if (number < 0) return -1;
    const units = unpacked(this.layers[number][1].units);
    const at = units[unit] === unit ? unit : units.indexOf(unit);
    return at < 0 ? -1 : this.starts[number] + at;
  }
  // The row of the unit within its layer: where its pictures and details are.
  place(at) { return at - this.starts[this.layers.findIndex(([name]) => this.run.layerNumber.get(name) === this.layer[at])]; }
}
