// A list of any length of which only what is in sight is in the document.

const TALLEST = 8e6;  // pixels: browsers draw nothing beyond about twice this

class VirtualList {
  constructor({label, count, height, render, open, columns}) {
    Object.assign(this, {count, height, render, open});
    this.at = -1;
    this.rows = h("div", {className: "rows"});
    this.node = h("div", {className: "list", role: "grid", ariaLabel: label, tabIndex: 0, ariaRowCount: count + 1, ariaColCount: columns});
    this.head = h("div", {role: "rowgroup", className: "head"});
    this.body = h("div", {role: "rowgroup", className: "body"}, this.rows);
    this.node.append(this.head, this.body);
    this.rows.addEventListener("click", event => {
      const row = event.target.closest("[role=row]");
      if (!row || event.target.closest("a, button")) return;
      this.select(Number(row.id.slice(4)));
      this.open(this.at);
    });
    this.node.addEventListener("scroll", () => this.draw(), {passive: true});
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.node);
    this.drawn = "";
  }
  get total() { return this.count * this.height; }
  get shrink() { return Math.max(1, this.total / TALLEST); }  // of the scroll bar, where the list is taller than a browser can draw
  refresh(count, render) {
    Object.assign(this, {count, render, drawn: ""});
    this.node.setAttribute("aria-rowcount", count + 1);
    this.at = Math.min(this.at, count - 1);
    this.draw();
  }
  draw() {
    const view = this.node.clientHeight || 600;
    this.body.style.height = `${this.total / this.shrink}px`;
    const top = this.node.scrollTop * this.shrink;
    const first = Math.max(0, Math.floor(top / this.height) - 2);
    const last = Math.min(this.count, Math.ceil((top + view) / this.height) + 2);
    const key = `${first} ${last} ${this.at}`;
    this.rows.style.transform = `translateY(${first * this.height - top + this.node.scrollTop}px)`;
    if (key === this.drawn) return;
    this.drawn = key;
    const nodes = [];
    for (let i = first; i < last; i++) {
      const node = this.render(i);
      node.style.height = `${this.height}px`;
      node.setAttribute("role", "row");
      node.setAttribute("aria-rowindex", i + 2);
      node.setAttribute("aria-selected", i === this.at ? "true" : "false");
      node.id = `row-${i}`;
      nodes.push(node);
    }
    this.rows.replaceChildren(...nodes);
    if (this.at >= first && this.at < last) this.node.setAttribute("aria-activedescendant", `row-${this.at}`);
    else this.node.removeAttribute("aria-activedescendant");
  }
  select(i) {
    if (!this.count) return;
    this.at = Math.max(0, Math.min(this.count - 1, i));
    const room = this.node.clientHeight - this.head.offsetHeight, top = this.node.scrollTop * this.shrink;
    const start = this.at * this.height;
    if (start < top) this.node.scrollTop = start / this.shrink;
    else if (start + this.height > top + room) this.node.scrollTop = (start + this.height - room) / this.shrink;
    this.draw();
  }
}
