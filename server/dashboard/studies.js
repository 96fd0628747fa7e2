// The list of a network's studies, kept up to date. Text from outside goes through textContent alone.

import { element } from "./curves.js";
import { Hospitals } from "./hospitals.js";
import { showMe, Stream } from "./stream.js";
import { badge, WORDS } from "./study.js";
import { count, roughly, setText, when } from "./text.js";

const $ = (id) => document.getElementById(id);
const LATELY = 8; // waiting hospitals that are named
const FILTERS = {
  all: ["All", () => true],
  live: ["Not over", (one) => !one.over],
  waiting: ["Waiting", (one) => one.waiting_for.length > 0],
  over: ["Over", (one) => one.over],
};
const studies = new Map(), rows = new Map();
const hospitals = new Hospitals($("hospital-head"), $("hospital-rows"), $("no-hospitals"),
  ["state", "seen", "traffic", "refusals"]);
let known = [], network = null, chosen = "all", skew = 0, said = "";

const now = () => Date.now() / 1000 + skew;

function take(picture, whole) {
  skew = picture.now - Date.now() / 1000;
  if (whole) { studies.clear(); network = null; }
  for (const one of picture.studies) { tell(studies.get(one.id), one, whole); studies.set(one.id, one); }
  known = picture.known;
  for (const id of studies.keys()) if (!known.includes(id)) studies.delete(id);
  setText($("network"), picture.network || "Studies");
  document.title = `${picture.network || "Studies"} – Wardround`;
  if (picture.connections) network = { ...network, ...picture.connections };
  showCounts();
  showRows();
  showHospitals();
}

// A change of state is spoken; what was there when the page came isn't.
function tell(old, one, whole) {
  if (whole || (old && old.state === one.state)) return;
  said = `${one.name}: ${WORDS[one.state] || one.state}`;
  setText($("live"), said);
}

function showCounts() {
  const number = (...states) => [...studies.values()].filter((one) => states.includes(one.state)).length;
  setText($("count-running"), String(number("running")));
  setText($("count-waiting"), String(number("submitted", "waiting")));
  setText($("count-queued"), String(number("queued")));
  setText($("count-complete"), String(number("complete")));
  setText($("count-ended"), String(number("failed", "aborted", "expired")));
}

function showRows() {
  const shown = known.map((id) => studies.get(id)).filter((one) => one && FILTERS[chosen][1](one));
  for (const [id, row] of rows) if (!shown.some((one) => one.id === id)) { row.tr.remove(); rows.delete(id); }
  shown.forEach((one, index) => {
    if (!rows.has(one.id)) rows.set(one.id, add(one));
    const row = rows.get(one.id), place = $("study-rows").children[index];
    if (place !== row.tr) $("study-rows").insertBefore(row.tr, place || null);
    fill(row, one);
  });
  $("no-studies").hidden = shown.length > 0;
  setText($("no-studies"), studies.size ? "None of these." : "No study was submitted yet.");
  for (const button of $("filters").children) {
    const key = button.dataset.filter;
    button.setAttribute("aria-pressed", String(key === chosen));
    setText(button, `${FILTERS[key][0]} ${[...studies.values()].filter(FILTERS[key][1]).length}`);
  }
}

function add(one) {
  const tr = element("tr"), head = element("th");
  head.scope = "row";
  const link = head.appendChild(element("a"));
  link.href = `studies/${one.id}`;
  const owner = head.appendChild(element("span", "sub"));
  tr.append(head);
  const cells = {};
  for (const [key, title] of [["state", "State"], ["round", "Round"], ["hospitals", "Hospitals"], ["waiting", "Waiting for"], ["since", "For"]]) {
    const td = element("td"), box = td.appendChild(element("div"));
    td.dataset.label = title;
    cells[key] = { box, main: box.appendChild(element("span")), sub: box.appendChild(element("span", "sub")) };
    tr.append(td);
  }
  const bar = cells.round.box.appendChild(element("div", "bar"));
  bar.append(element("i"));
  bar.setAttribute("role", "progressbar");
  bar.setAttribute("aria-valuemin", "0");
  return { tr, link, owner, cells, bar };
}

function fill({ link, owner, cells, bar }, one) {
  setText(link, one.name);
  setText(owner, `${one.owner} · ${one.id.slice(0, 12)}`);
  badge(cells.state.main, one.state);
  setText(cells.state.sub, one.reason);
  setText(cells.round.main, one.round ? `${one.round}${one.rounds ? ` of ${one.rounds}` : ""}` : one.rounds ? `${one.rounds} planned` : "–");
  bar.hidden = one.state !== "running";
  bar.setAttribute("aria-label", `Rounds of ${one.name}`);
  bar.setAttribute("aria-valuemax", one.rounds || 1);
  bar.setAttribute("aria-valuenow", one.round);
  bar.firstChild.style.width = `${one.rounds ? Math.min(100, (100 * one.round) / one.rounds) : 0}%`;
  const by = (word) => one.hospitals.filter((h) => h.word === word);
  // a hospital's own people are told its word only
  const own = one.hospitals.some((h) => !h.word) ? one.hospitals.filter((h) => h.word) : null;
  setText(cells.hospitals.main, own && own.length ? `${own.map((h) => `${h.name}: ${h.word}`).join(", ")}; ${one.hospitals.length} asked`
    : `${by("accepted").length} of ${one.hospitals.length} accepted`);
  setText(cells.hospitals.sub, by("rejected").map((h) => `${h.name} rejected it${h.reason ? `: ${h.reason}` : ""}`).join("; "));
  const waiting = one.waiting_for;
  setText(cells.waiting.main, waiting.slice(0, LATELY).join(", ") || "–");
  setText(cells.waiting.sub, waiting.length > LATELY ? `and ${count(waiting.length - LATELY, "more hospital")}` : "");
  setText(cells.since.main, roughly(now() - one.changed));
  cells.since.box.title = when(one.changed);
}

function showHospitals() {
  const all = network && network.hospitals;
  $("hospitals").hidden = $("up-tile").hidden = !all;
  if (!all) return;
  setText($("connected"), `${all.filter((h) => h.up).length} of ${all.length}`);
  hospitals.show(all, network.run, now());
}

for (const key of Object.keys(FILTERS)) {
  const button = element("button", "chip");
  button.type = "button";
  button.dataset.filter = key;
  button.addEventListener("click", () => { chosen = key; showRows(); });
  $("filters").append(button);
}
setInterval(() => { for (const [id, row] of rows) if (studies.has(id)) fill(row, studies.get(id)); showHospitals(); }, 1000);
new Stream("api", take);
showMe();
