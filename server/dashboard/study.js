// A study's own card: who asks what, what the hospitals say, what happened so far.

import { element } from "./curves.js";
import { day, setText, when } from "./text.js";

const $ = (id) => document.getElementById(id);
const found = location.pathname.match(/\/studies\/([0-9a-f]{64})$/);
export const STUDY = found ? found[1] : ""; // '' where the page is of a federation's one run
const STYLES = { running: "good", complete: "good", failed: "bad", aborted: "bad", expired: "bad", waiting: "warn" };
export const WORDS = { waiting: "waiting for approvals", queued: "in the queue" };

export function badge(node, state) {
  setText(node, WORDS[state] || state);
  node.className = `badge ${STYLES[state] || ""}`;
}

if (STUDY) {
  $("back").hidden = false;
  $("study").hidden = false;
  $("back-link").href = new URL(".", import.meta.url);
  $("data").href = new URL(`api/studies/${STUDY}/state`, import.meta.url);
}

export function showStudy(study) {
  document.title = `${study.name}: ${WORDS[study.state] || study.state} – Wardround`;
  setText($("run-name"), study.name);
  badge($("status"), study.state);
  setText($("purpose"), study.purpose);
  $("purpose").hidden = !study.purpose;
  $("study-reason").hidden = !study.reason;
  setText($("study-reason"), study.reason);
  setText($("owner"), study.owner);
  setText($("submitted"), day(study.submitted));
  setText($("ends"), study.ends ? study.ends.slice(0, 10) : "–");
  setText($("waiting-for"), study.waiting_for.join(", ") || "nobody");
  setText($("study-id"), study.id);
  $("said").replaceChildren(...study.hospitals.map(({ name, word, reason }) => {
    const item = element("li");
    item.append(element("b", "", name));
    if (word) item.append(element("span", `word ${word}`, word)); // another hospital's isn't told
    if (reason) item.append(element("span", "sub", reason));
    return item;
  }));
  $("events").replaceChildren(...study.events.slice().reverse().map((event) => {
    const item = element("li");
    const [what, whose, why] = told(event);
    item.append(element("time", "", when(event.time)), element("b", "", what), element("span", "soft", whose));
    if (why) item.append(element("span", "sub", why));
    return item;
  }));
}

// An event as what happened, by or to whom, and why.
function told({ kind, old, new: now, who, reason }) {
  if (kind === "delivery") return [reason === "results" ? "results delivered" : "told how it ended", who && `to ${who}`, ""];
  if (kind === "claim") return ["taken in hand", who && `by ${who}`, reason];
  if (kind === "decision" && now === "waiting") return ["undecided again", who && `at ${who}`, reason];
  return [WORDS[now] || now || old, who && `by ${who}`, reason];
}

export function whyNoRun(study) {
  if (study.over && !study.events.some((event) => event.new === "running")) return "No round of it is shown here.";
  if (study.over) return "Its rounds are no longer shown here; they stand in its run directory, and in the report.";
  if (study.live && !study.board) return "Its rounds are seen once a hospital has accepted the study.";
  return "It hasn't begun: rounds, curves and hospitals are seen here once it runs.";
}
