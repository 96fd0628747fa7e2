// The server's event stream, kept open: what came, whether it is live, and who is signed in.

import { setText } from "./text.js";

const SILENT_S = 25; // the server says something at least every 10 s
const RETRY_S = 3;
const ROOT = new URL(".", import.meta.url); // where the dashboard lies, whatever page this is
const LOST = "The connection to the server is lost; reconnecting. What is shown may be old.";
const $ = (id) => document.getElementById(id);

export class Stream {
  // base: what it is of, such as 'api'; take(picture, whole) is called with what comes.
  constructor(base, take) {
    Object.assign(this, { base, take, heard: 0, source: null });
    setInterval(() => { if (Date.now() - this.heard > SILENT_S * 1000) { this.lost(); this.listen(); } }, 1000);
    this.listen();
  }

  listen() {
    if (this.source) this.source.close();
    const source = this.source = new EventSource(new URL(`${this.base}/events`, ROOT));
    this.heard = Date.now();
    for (const kind of ["whole", "change"]) {
      source.addEventListener(kind, (event) => { this.live(); this.take(JSON.parse(event.data), kind === "whole"); });
    }
    source.addEventListener("alive", () => this.live());
    source.onerror = () => {
      this.lost();
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.again(), RETRY_S * 1000);
    };
  }

  // An answer that isn't a stream: signed out, or no such thing.
  async again() {
    const state = await fetch(new URL(`${this.base}/state`, ROOT)).catch(() => null);
    if (state && state.status === 401) return location.reload();
    if (state && state.status === 404) { this.nothing(); return undefined; }
    return this.listen();
  }

  nothing() {
    this.heard = Infinity;
    setText($("banner"), "There is nothing to see here: no such study, or none of yours.");
    $("banner").hidden = false;
    setText($("link"), "");
  }

  live() {
    this.heard = Date.now();
    $("banner").hidden = true;
    setText($("link"), "live");
  }

  lost() {
    setText($("banner"), LOST);
    $("banner").hidden = false;
    setText($("link"), "reconnecting");
  }
}

// Who is signed in, and a way out; nothing where nobody has to sign in.
export async function showMe() {
  const answer = await fetch(new URL("api/me", ROOT)).catch(() => null);
  if (!answer || !answer.ok) return;
  const me = await answer.json(), form = document.createElement("form");
  if (!me.name) return;
  const all = me.roles.includes("coordinator");
  for (const node of document.querySelectorAll(".for-all")) node.hidden = !all;
  form.method = "post";
  form.action = new URL("sign-out", ROOT);
  const word = document.createElement("input"), button = document.createElement("button");
  Object.assign(word, { type: "hidden", name: "form", value: me.form });
  Object.assign(button, { type: "submit", textContent: "Sign out" });
  const who = document.createElement("span");
  setText(who, me.name);
  who.title = me.roles.join(", ");
  form.append(who, word, button);
  $("me").replaceChildren(form);
  $("me").hidden = false;
}
