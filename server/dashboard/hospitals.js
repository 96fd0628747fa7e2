// The table of hospitals: a row each, updated in place so that a selection or focus survives.

import { element, figure } from "./curves.js";
import { ago, bytes, clock, setText, words } from "./text.js";

const WORK = { asked: "working", answered: "answered", refused: "not accepted",
  "not drawn": "not drawn", "evaluates only": "evaluates only" };
const STYLES = { connected: "connected", away: "away", refused: "refused", revoked: "revoked",
  "refuses the run": "refused", withdrew: "refused" };
const NEARLY = 0.8;

const COLUMNS = [
  { key: "state", title: "State", fill: state },
  { key: "seen", title: "Last heard", fill: seen },
  { key: "rows", title: "Rows", fill: rows, when: (all) => all.some((h) => h.sizes.train) },
  { key: "step", title: "This round", fill: work },
  { key: "rounds", title: "Rounds", fill: (cell, h) => setText(cell.main, String(h.rounds)) },
  { key: "traffic", title: "Traffic", fill: traffic,
    when: (all) => all.some((h) => h.bytes_in || h.bytes_out) },
  { key: "epsilon", title: "Epsilon spent", fill: epsilon, when: (all) => all.some((h) => h.private) },
  { key: "figure", title: "Figure", fill: ownFigure },
  { key: "refusals", title: "Refusals", fill: (cell, h) => setText(cell.main, String(h.refusals)) },
];

export class Hospitals {
  // only: keys of the columns that are shown; left out: all that have something to show
  constructor(head, body, empty, only) {
    Object.assign(this, { head, body, empty, only, rows: new Map(), columns: "" });
  }

  show(hospitals, run, now) {
    this.empty.hidden = hospitals.length > 0;
    const columns = COLUMNS.filter((column) => (!this.only || this.only.includes(column.key))
      && (!column.when || column.when(hospitals)));
    const keys = columns.map((column) => column.key).join();
    if (keys !== this.columns) this.start(columns, keys);
    const present = new Set(hospitals.map((h) => h.name));
    for (const [name, row] of this.rows) if (!present.has(name)) { row.tr.remove(); this.rows.delete(name); }
    hospitals.forEach((hospital, index) => {
      const row = this.rows.get(hospital.name) || this.add(hospital, columns);
      if (this.body.children[index] !== row.tr) this.body.insertBefore(row.tr, this.body.children[index] || null);
      setText(row.address, hospital.address);
      setText(row.version, hospital.version && `version ${hospital.version}`);
      for (const column of columns) column.fill(row.cells[column.key], hospital, run, now);
    });
  }

  start(columns, keys) {
    this.columns = keys;
    this.rows.clear();
    this.body.replaceChildren();
    this.head.replaceChildren(...["Hospital", ...columns.map((c) => c.title)].map((title) => {
      const cell = element("th", "", title);
      cell.scope = "col";
      return cell;
    }));
  }

  add({ name, title: called }, columns) {
    const tr = element("tr"), cells = {};
    const head = element("th", "", called || name);
    head.scope = "row";
    if (called) head.append(element("span", "sub", name));
    const address = head.appendChild(element("span", "sub"));
    const version = head.appendChild(element("span", "sub"));
    tr.append(head);
    for (const { key, title } of columns) {
      const td = element("td");
      td.dataset.label = title;
      const box = td.appendChild(element("div"));
      cells[key] = { box, main: box.appendChild(element("span")), sub: null };
      tr.append(td);
    }
    const row = { tr, address, version, cells };
    this.rows.set(name, row);
    return row;
  }
}

function below(cell, text) {
  if (!cell.sub) cell.sub = cell.box.appendChild(element("span", "sub"));
  setText(cell.sub, text);
}

function state(cell, hospital) {
  cell.main.className = `state ${STYLES[hospital.state] || ""}`;
  setText(cell.main, hospital.state);
  const since = hospital.since === null ? "" : `since ${clock(hospital.since)}`;
  below(cell, [since, hospital.reason].filter(Boolean).join(": "));
}

function work(cell, hospital) {
  const missing = ["asked", "refused"].includes(hospital.step) && !hospital.up;
  setText(cell.main, missing ? "missing" : WORK[hospital.step] || "–");
}

function seen(cell, hospital, run, now) {
  setText(cell.main, hospital.seen === null ? "never" : ago(now - hospital.seen));
}

function rows(cell, { sizes }) {
  const train = sizes.train;
  setText(cell.main, train === undefined ? "–" : `${train.toLocaleString("en")} train`);
  const rest = ["validation", "test"].filter((split) => sizes[split]);
  below(cell, rest.map((split) => `${sizes[split].toLocaleString("en")} ${split}`).join(", "));
}

function traffic(cell, hospital) {
  setText(cell.main, `${bytes(hospital.bytes_in)} in`);
  below(cell, `${bytes(hospital.bytes_out)} out`);
}

function short(value) {
  return String(Number(value.toFixed(2)));
}

function epsilon(cell, hospital) {
  if (!cell.bar) {
    cell.bar = element("div", "bar");
    cell.bar.append(element("i"));
    cell.box.append(cell.bar);
    cell.bar.setAttribute("role", "meter");
    cell.bar.setAttribute("aria-label", `epsilon of ${hospital.name}`);
    cell.bar.setAttribute("aria-valuemin", "0");
  }
  const { epsilon: spent, epsilon_limit: limit } = hospital;
  const bounded = hospital.private && limit !== null && spent !== null;
  cell.bar.hidden = !bounded;
  if (!hospital.private) return setText(cell.main, "none claimed");
  const delta = hospital.delta === null ? "" : `delta\u00a0${hospital.delta.toExponential(0).replace("-", "\u2011")}`;
  if (!bounded) {
    below(cell, delta);
    return setText(cell.main, `${spent === null ? "unlimited" : short(spent)}, no limit`);
  }
  const part = Math.min(1, spent / limit);
  setText(cell.main, `${short(spent)} of ${short(limit)}`);
  cell.bar.firstChild.style.width = `${(100 * part).toFixed(1)}%`;
  cell.bar.className = `bar ${part >= 1 ? "bad" : part >= NEARLY ? "warn" : ""}`;
  cell.bar.setAttribute("aria-valuemax", limit);
  cell.bar.setAttribute("aria-valuenow", spent);
  const left = part >= 1 ? "spent" : `${part >= NEARLY ? "only " : ""}${short(limit - spent)} left`;
  return below(cell, [left, delta].filter(Boolean).join(", "));
}

function ownFigure(cell, hospital, run) {
  if (hospital.figures === "hidden") return setText(cell.main, "hidden");
  const split = ["test", "validation"].find((name) => hospital.figures[name]);
  if (!split) return setText(cell.main, "–");
  const own = hospital.figures[split];
  const name = run.primary in own ? run.primary : Object.keys(own)[0];
  setText(cell.main, figure(own[name]));
  return below(cell, `${words(name)} on ${split}`);
}
