// Keeps a copy of the server's board from its event stream and shows it. Nothing is ever sent back.
// Text from outside goes through textContent alone; no markup is built from it.

import { Curve, element } from "./curves.js";
import { Hospitals } from "./hospitals.js";
import { showMe, Stream } from "./stream.js";
import { showStudy, STUDY, whyNoRun } from "./study.js";
import { bytes, clock, count, duration, elapsed, setText, words } from "./text.js";

const ANNOUNCE_S = 4;
const FIRST_CURVES = matchMedia("(max-width: 52rem)").matches ? 2 : 6;
const LAST = ["prevalence", "examples"]; // they hardly move
const NOTABLE_BOUND = 0.005; // an error bound above this stands beside its figure
const SPLITS = ["train", "validation", "test"];

const $ = (id) => document.getElementById(id);
const board = { run: null, hospitals: [], rounds: [], refusals: [], audit: [] };
const table = new Hospitals($("hospital-head"), $("hospital-rows"), $("no-hospitals"));
const curves = new Map();
let skew = 0; // server's clock minus ours, seconds
let allCurves = false;

const now = () => Date.now() / 1000 + skew;

// --- what the stream brings ---------------------------------------------------------------------
function take(picture, whole) {
  skew = picture.now - Date.now() / 1000;
  if (whole) Object.assign(board, { run: null, hospitals: [], rounds: [], refusals: [], audit: [] });
  for (const row of picture.rounds || []) {
    while (board.rounds.length && board.rounds[board.rounds.length - 1].round >= row.round) board.rounds.pop();
    board.rounds.push(row);
  }
  board.rounds.splice(0, board.rounds.length - 1000);
  for (const key of ["run", "hospitals", "refusals", "audit"]) if (key in picture) board[key] = picture[key];
  if (picture.study) showStudy(picture.study, now());
  $("run").hidden = !board.run;
  $("no-run").hidden = Boolean(board.run);
  if (!board.run && picture.study) setText($("no-run"), whyNoRun(picture.study));
  if (board.run) show(picture);
}

// --- showing --------------------------------------------------------------------------------------
function show(picture) {
  if (picture.run || picture.rounds) showRun();
  if (picture.run || picture.hospitals) showHospitals();
  if (picture.rounds) showCurves();
  if (picture.refusals) showRefusals();
  if (picture.audit) showAudit();
}

function showRun() {
  const { run } = board, last = board.rounds[board.rounds.length - 1];
  const done = last ? last.round : 0, running = run.status === "running";
  if (!STUDY) document.title = `${run.name || "run"}: round ${run.round || 0} – Wardround`;
  if (!STUDY) { // a study's own state stands there
    setText($("run-name"), run.name || "(no name yet)");
    setText($("status"), run.status);
    $("status").className = `badge ${running || run.status === "complete" ? "good" : "bad"}`;
  }
  $("secure").hidden = !run.hidden;
  setText($("round"), String(run.round || "–"));
  setText($("of"), run.rounds ? `of ${run.rounds}` : "");
  setText($("committed"), `${done} committed${run.attempt > 1 && done < run.round ? `, attempt ${run.attempt}` : ""}`);
  $("progress").setAttribute("aria-valuemax", run.rounds || 1);
  $("progress").setAttribute("aria-valuenow", done);
  $("progress").firstChild.style.width = `${run.rounds ? Math.min(100, (100 * done) / run.rounds) : 0}%`;
  showPhases(run, running);
  const failed = run.last_failure;
  $("failure").hidden = !failed || failed.round <= done;
  if (failed) setText($("failure"), `Round ${failed.round}, attempt ${failed.attempt} failed at ${clock(failed.time)}: ${failed.reason}`);
  setText($("bytes-in"), bytes(run.bytes_in));
  setText($("bytes-out"), bytes(run.bytes_out));
  setText($("seconds"), last ? duration(last.seconds) : "–");
  setText($("refusal-count"), run.refusals.toLocaleString("en"));
  $("notes-section").hidden = run.warnings.length === 0;
  $("notes").replaceChildren(...run.warnings.map((line) => element("li", "", line)));
  announce(phaseWords(run, running));
  tick();
}

function showPhases(run, running) {
  const at = run.status === "complete" ? run.phases.length : run.phases.indexOf(run.phase);
  const list = $("phases");
  if (list.children.length !== run.phases.length) {
    list.replaceChildren(...run.phases.map((name) => element("li", "", name)));
  }
  run.phases.forEach((name, index) => {
    const item = list.children[index];
    setText(item, name);
    item.className = index < at ? "done" : "";
    if (running && index === at) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  });
}

function phaseWords(run, running) {
  if (!running) return `The run is over: ${run.status}`;
  return run.round ? `Round ${run.round}: ${run.phase}` : `${run.phase}${run.detail ? `: ${run.detail}` : ""}`;
}

function phaseDetail(run) {
  if (run.status !== "running") return `Ended: ${run.status}`;
  const parts = [];
  if (run.phase === "waiting" || run.phase === "preparing") parts.push(run.detail || run.phase);
  else if (run.expected) {
    parts.push(`${run.answered} of ${count(run.expected, "hospital")} answered`);
    if (run.not_accepted) parts.push(`${run.not_accepted} not accepted`);
    if (run.evaluated) parts.push(`${run.evaluated} evaluated`);
  }
  parts.push(`${run.phase} for ${elapsed(now() - run.phase_since)}`);
  return parts.join(" · ");
}

function showHospitals() {
  const up = board.hospitals.filter((h) => h.up).length;
  setText($("connected"), `${up} of ${board.hospitals.length}`);
  $("private").hidden = !board.hospitals.some((h) => h.private);
  if (board.run) table.show(board.hospitals, board.run, now());
}

// The primary metric first, then loss, then the others as the task names them, counts of rows last.
function metricNames() {
  const names = new Set([board.run.primary, "loss"]);
  for (const row of board.rounds) for (const part of Object.values(row.overall)) Object.keys(part).forEach((n) => names.add(n));
  for (const name of names) if (name.endsWith("_error_bound")) names.delete(name);
  for (const name of LAST) if (names.delete(name)) names.add(name);
  const known = (name) => board.rounds.some((row) => (name === "loss" && row.train_loss !== null)
    || Object.values(row.overall).some((part) => name in part));
  return [...names].filter((name) => name && known(name));
}

function valueOf(row, split, name) {
  if (split === "train" && name === "loss") return row.train_loss;
  return row.overall[split] && row.overall[split][name];
}

// What a figure is of, and how far it may be from the exact one where that matters.
function noteOf(name) {
  if (name === "loss") return "lower is better";
  const row = board.rounds.findLast((one) => Object.values(one.overall).some((part) => name in part));
  const part = row && (row.overall.test || row.overall.validation || {});
  const bound = part && part[`${name}_error_bound`];
  const parts = row && (row.means || []).includes(name) ? ["mean of hospitals"] : [];
  if (bound > NOTABLE_BOUND) parts.push(`±${bound.toFixed(3)}`);
  return parts.join(", ");
}

function showCurves() {
  const names = metricNames();
  const shown = allCurves ? names : names.slice(0, FIRST_CURVES);
  $("no-curves").hidden = names.length > 0;
  $("more-curves").hidden = shown.length === names.length;
  setText($("more-curves"), `Show all ${names.length} figures`);
  for (const [name, curve] of curves) if (!shown.includes(name)) { curve.card.remove(); curves.delete(name); }
  shown.forEach((name, index) => {
    if (!curves.has(name)) curves.set(name, new Curve(words(name), noteOf(name)));
    const curve = curves.get(name), place = $("curves").children[index];
    if (place !== curve.card) $("curves").insertBefore(curve.card, place || null);
    const extra = board.rounds.flatMap((row) => Object.keys(row.overall)).filter((s) => !SPLITS.includes(s));
    const splits = [...SPLITS, ...new Set(extra)].filter((split) =>
      board.rounds.some((row) => Number.isFinite(valueOf(row, split, name))));
    const points = board.rounds.map((row) => ({ round: row.round, values: splits.map((s) => valueOf(row, s, name)) }))
      .filter((point) => point.values.some((value) => value !== undefined));
    curve.unit = noteOf(name);
    curve.show(splits, points);
  });
}

function showRefusals() {
  $("no-refusals").hidden = board.refusals.length > 0;
  $("refusals").replaceChildren(...folded(board.refusals).map(({ last, times, first }) => {
    const item = element("li"), when = element("time", "", clock(last.time));
    const where = last.round ? `round ${last.round}, ${last.step}` : last.step;
    const since = times > 1 ? `, ${times} times since ${clock(first)}` : "";
    item.append(when, element("b", "", last.hospital), element("span", "soft", where + since),
      element("span", "sub", last.reason));
    return item;
  }));
}

// Newest first; the same reason of the same hospital again and again is one line.
function folded(refusals) {
  const groups = new Map();
  for (const refusal of refusals) {
    const key = JSON.stringify([refusal.hospital, refusal.reason]);
    const group = groups.get(key) || { times: 0, first: refusal.time };
    groups.delete(key); // so that the newest group is the last
    groups.set(key, { ...group, times: group.times + 1, last: refusal });
  }
  return [...groups.values()].reverse();
}

function showAudit() {
  $("no-audit").hidden = board.audit.length > 0;
  $("audit").replaceChildren(...board.audit.slice().reverse().map((line) => {
    const item = element("li"), when = new Date(line.time);
    const shown = Number.isNaN(when.getTime()) ? line.time : clock(when.getTime() / 1000);
    item.append(element("time", "", shown), element("b", "", line.event),
      element("code", "", `#${line.seq} ${line.hash}`), element("span", "sub", line.detail));
    return item;
  }));
}

// --- what changes with time alone -----------------------------------------------------------------
function tick() {
  if (!board.run) return;
  setText($("phase-text"), phaseDetail(board.run));
  setText($("uptime-title"), board.run.ended ? "Ran for" : "Running for");
  setText($("uptime"), elapsed((board.run.ended || now()) - board.run.started));
}

let announced = 0, waiting = null, said = "";
function announce(words) {
  if (words === said) return;
  said = words;
  clearTimeout(waiting);
  const speak = () => { announced = Date.now(); setText($("live"), said); };
  waiting = setTimeout(speak, Math.max(0, announced + ANNOUNCE_S * 1000 - Date.now()));
}

setInterval(() => {
  tick();
  if (board.run) table.show(board.hospitals, board.run, now());
}, 1000);
$("more-curves").addEventListener("click", () => { allCurves = true; showCurves(); });
new Stream(STUDY ? `api/studies/${STUDY}` : "api", take);
showMe();
