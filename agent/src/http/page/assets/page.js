// Brings the page up to date: the same page is fetched again, and what differs is changed in place, so that focus, selection and scrolling
// stay where they are. Without this the page is whole, and as old as its request.
"use strict";

const INTERVAL = 1500;
const PATIENCE = 10000;

const main = document.querySelector("main[data-live]");
const state = document.getElementById("state");
const said = document.getElementById("said");
let timer;
let asking = false;
let answered = new Date();

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") || node.id || null : null;
}

// Makes `old` what `fresh` is, and keeps the nodes that stay.
function become(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data && !getSelection().containsNode(old, true)) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const keyed = new Map([...old.children].filter(keyOf).map((child) => [keyOf(child), child]));
  let place = old.firstChild;
  for (const next of fresh.childNodes) {
    const key = keyOf(next);
    const alike = place && !keyOf(place) && place.nodeName === next.nodeName ? place : null;
    const known = key ? keyed.get(key) : alike;
    if (!known) {
      old.insertBefore(document.importNode(next, true), place);
      continue;
    }
    if (known === place) place = place.nextSibling;
    else old.insertBefore(known, place);
    become(known, next);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

// Storms that were not there before are said aloud; nothing else is.
function announce(before) {
  const fresh = [...main.querySelectorAll("[data-storm]")].filter((storm) => !before.has(storm.dataset.storm));
  if (fresh.length === 0) return;
  said.textContent = fresh.map((storm) => `New storm: ${storm.querySelector("[data-summary]").textContent}`).join(" ");
}

function take(page) {
  const script = (of) => of.querySelector("script[src]").getAttribute("src");
  if (script(page) !== script(document)) return location.reload();
  const before = new Set([...main.querySelectorAll("[data-storm]")].map((storm) => storm.dataset.storm));
  const focused = document.activeElement;
  become(main, page.querySelector("main"));
  // An element that was moved has lost it.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  document.title = page.title;
  announce(before);
}

function show(words, away) {
  if (state.textContent !== words) state.textContent = words;
  document.body.classList.toggle("away", away);
}

async function refresh() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch(location.pathname, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (!page.querySelector("main")) throw new Error(answer.statusText);
    answered = new Date();
    take(page);
    show(answer.ok ? "live" : "no numbers now", !answer.ok);
  } catch {
    show(`The agent has not answered since ${answered.toLocaleTimeString()}`, true);
  }
  asking = false;
  plan();
}

function plan() {
  clearTimeout(timer);
  if (!main.hasAttribute("data-live")) show("", false);
  else if (!document.hidden) timer = setTimeout(refresh, INTERVAL);
}

if (main) {
  show("live", false);
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : refresh()));
  plan();
}
