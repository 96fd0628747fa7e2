// One curve card: a figure by round, a line per split, drawn as SVG without any library. The plot
// is a slider to the keyboard and to a screen reader: its value is the round that is read out.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 190;
const STYLES = { test: "s0", train: "s1", validation: "s2" }; // a split looks the same everywhere
const MARGIN = { top: 10, right: 12, bottom: 34, left: 52 };

export function svg(name, attributes, text) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

export function element(name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

export function figure(value) {
  if (typeof value !== "number") return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

// Round steps of 1, 2 or 5 times a power of ten, so that about `count` ticks cover the range.
export function ticks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((x) => x * power).find((x) => x >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(k * step);
  return { found, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

export class Curve {
  constructor(title, unit) {
    this.title = title;
    this.points = []; // {round, values: a number, null or undefined per series}
    this.series = [];
    this.chosen = null; // a round, while one is looked at
    this.card = element("article", "card curve");
    const heading = element("h3", "", title);
    this.heading = heading.appendChild(element("span", "", unit));
    this.unit = unit;
    this.legend = element("ul", "legend");
    this.plot = svg("svg", { class: "plot", tabindex: "0", role: "slider" });
    this.plot.setAttribute("aria-label", `${title} by round`);
    this.card.append(heading, this.legend, this.plot);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerdown", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.choose(null));
    this.plot.addEventListener("blur", () => this.choose(null));
    this.plot.addEventListener("keydown", (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.card);
  }

  show(series, points) {
    this.series = series;
    this.points = points;
    this.draw();
  }

  key(event) {
    const last = this.points.length - 1;
    const at = this.chosen === null ? last : this.points.findIndex((p) => p.round === this.chosen);
    const moves = { ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageDown: at - 10, PageUp: at + 10, Home: 0, End: last };
    if (event.key === "Escape") return this.choose(null);
    if (!(event.key in moves) || last < 0) return undefined;
    event.preventDefault();
    const next = this.chosen === null && event.key.startsWith("Arrow") ? last : moves[event.key];
    return this.choose(this.points[Math.min(last, Math.max(0, next))].round);
  }

  point(event) {
    if (!this.points.length) return;
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    const near = this.points.reduce((best, p) =>
      Math.abs(this.x(p.round) - x) < Math.abs(this.x(best.round) - x) ? p : best);
    this.choose(near.round);
  }

  choose(round) {
    if (this.chosen === round) return;
    this.chosen = round;
    this.mark();
  }

  draw() {
    this.width = Math.max(200, this.plot.clientWidth || this.card.clientWidth - 30);
    this.plot.setAttribute("viewBox", `0 0 ${this.width} ${HEIGHT}`);
    this.plot.replaceChildren();
    if (!this.points.length) return;
    this.scale();
    this.axes();
    this.series.forEach((_, index) => this.line(index));
    this.cursor = this.plot.appendChild(svg("g"));
    this.mark();
  }

  scale() {
    const values = this.points.flatMap((p) => p.values).filter(Number.isFinite);
    let low = Math.min(...values), high = Math.max(...values);
    if (!values.length) [low, high] = [0, 1];
    const room = (high - low || Math.abs(high) || 1) * 0.08;
    [low, high] = [low - room, high + room];
    const first = this.points[0].round, last = this.points[this.points.length - 1].round;
    const [right, bottom] = [this.width - MARGIN.right, HEIGHT - MARGIN.bottom];
    this.range = { low, high, first, last };
    this.x = (round) => first === last ? (MARGIN.left + right) / 2
      : MARGIN.left + ((round - first) / (last - first)) * (right - MARGIN.left);
    this.y = (value) => bottom - ((value - low) / (high - low)) * (bottom - MARGIN.top);
  }

  axes() {
    const { low, high, first, last } = this.range;
    const [right, bottom] = [this.width - MARGIN.right, HEIGHT - MARGIN.bottom];
    const side = ticks(low, high, 5);
    for (const value of side.found) {
      const y = this.y(value), big = Math.abs(value) >= 1e5;
      this.plot.append(
        svg("line", { class: "grid", x1: MARGIN.left, x2: right, y1: y, y2: y }),
        svg("text", { x: MARGIN.left - 7, y: y + 4, "text-anchor": "end" },
          big || side.digits > 5 ? value.toExponential(1) : value.toFixed(side.digits)));
    }
    this.plot.append(svg("line", { class: "axis", x1: MARGIN.left, x2: right, y1: bottom, y2: bottom }));
    const wanted = Math.max(2, Math.floor((right - MARGIN.left) / 60));
    const apart = 26 / (right - MARGIN.left) * (last - first); // so that no two numbers touch
    const rounds = first === last ? [first] : [first, ...ticks(first, last, wanted).found.filter(
      (r) => Number.isInteger(r) && r - first > apart && last - r > apart), last];
    for (const round of rounds) {
      this.plot.append(
        svg("line", { class: "axis", x1: this.x(round), x2: this.x(round), y1: bottom, y2: bottom + 4 }),
        svg("text", { x: this.x(round), y: bottom + 16, "text-anchor": "middle" }, String(round)));
    }
    this.plot.append(svg("text", { x: right, y: HEIGHT - 3, "text-anchor": "end" }, "round"));
  }

  style(index) {
    return STYLES[this.series[index]] || "s0";
  }

  line(index) {
    let path = "", open = false, count = 0;
    for (const { round, values } of this.points) {
      const value = values[index];
      if (value === undefined) continue; // not evaluated in this round: the line goes on
      if (value === null) { open = false; continue; } // evaluated, but undefined: a gap
      const at = `${this.x(round).toFixed(1)} ${this.y(value).toFixed(1)}`;
      path += open ? `L${at}` : `M${at}l0 0`; // so that a point alone shows as a dot
      open = true;
      count += 1;
    }
    if (count === 1) this.points.forEach((p) => this.dot(this.plot, p, index));
    else if (path) this.plot.append(svg("path", { class: `line ${this.style(index)}`, d: path }));
  }

  dot(parent, { round, values }, index) {
    if (!Number.isFinite(values[index])) return;
    parent.append(svg("circle",
      { class: this.style(index), cx: this.x(round), cy: this.y(values[index]), r: 4 }));
  }

  // The chosen round, or the newest: its values in the legend, and a cursor if it was chosen.
  mark() {
    if (!this.points.length) return;
    const chosen = this.points.find((p) => p.round === this.chosen);
    const shown = chosen || this.points[this.points.length - 1];
    const value = (index) => chosen ? chosen.values[index]
      : this.points.map((p) => p.values[index]).filter(Number.isFinite).pop();
    this.heading.textContent = chosen ? `round ${chosen.round}` : this.unit;
    this.legend.replaceChildren(...this.series.map((name, index) => {
      const item = element("li");
      const key = svg("svg", { width: 18, height: 8, "aria-hidden": "true" });
      key.append(svg("line", { class: `line ${this.style(index)}`, x1: 1, x2: 17, y1: 4, y2: 4 }));
      item.append(key, element("span", "soft", name), element("b", "", figure(value(index))));
      return item;
    }));
    if (this.cursor) {
      this.cursor.replaceChildren();
      if (chosen) {
        const x = this.x(chosen.round);
        this.cursor.append(svg("line",
          { class: "cursor", x1: x, x2: x, y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom }));
        this.series.forEach((_, index) => this.dot(this.cursor, chosen, index));
      }
    }
    const words = this.series.map((name, i) => `${name} ${figure(value(i))}`).join(", ");
    this.plot.setAttribute("aria-valuemin", this.points[0].round);
    this.plot.setAttribute("aria-valuemax", this.points[this.points.length - 1].round);
    this.plot.setAttribute("aria-valuenow", shown.round);
    this.plot.setAttribute("aria-valuetext", `round ${shown.round}: ${words}`);
  }
}
