// Brings the parts of a page up to date that say they are live: by asking for the page again and
// taking those parts of the answer. Without it a page is as it was when it was loaded.

const EVERY_MS = 2000;
const SLOWER_MS = 10000; // while the console does not answer

const parts = () => [...document.querySelectorAll("[data-live]")];
const line = document.getElementById("live");
const announcer = document.getElementById("announce");
const state = document.createElement("span");
const button = document.createElement("button");
let paused = false;
let timer = 0;
let announced = words(document);

function words(page) {
  return [...page.querySelectorAll("[data-announce]")].map((e) => e.textContent).join(". ");
}

function isBusy(part) {
  // Whoever types in it, stands on a control in it, or marks a text in it, is not interrupted.
  const active = document.activeElement;
  if (active !== document.body && part.contains(active)) return true;
  const selection = document.getSelection();
  return selection !== null && !selection.isCollapsed && part.contains(selection.anchorNode);
}

function take(part, fresh) {
  if (part.innerHTML === fresh.innerHTML) return;
  const owners = new Map();
  for (const tile of part.querySelectorAll("[data-owner]")) {
    owners.set(tile.firstChild.textContent, tile.dataset.owner);
  }
  part.replaceChildren(...fresh.childNodes);
  for (const tile of part.querySelectorAll("[data-owner]")) {
    const before = owners.get(tile.firstChild.textContent);
    if (before !== undefined && before !== tile.dataset.owner) tile.classList.add("changed");
  }
}

async function refresh() {
  try {
    const answer = await fetch(location.href, { headers: { "x-live": "1" }, redirect: "error" });
    if (answer.status === 401) return lose("The console was started anew: open its new address.");
    if (!answer.ok) return lose(`The console answers with ${answer.status}.`);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    if (paused) return;
    for (const part of parts()) {
      const fresh = page.getElementById(part.id);
      if (fresh !== null && !isBusy(part)) take(part, fresh);
    }
    const now = words(page);
    if (now !== announced) announcer.textContent = now;
    announced = now;
    line.classList.remove("lost");
    state.textContent = `Live, ${new Date().toLocaleTimeString()}`;
    again(EVERY_MS);
  } catch {
    lose("The console does not answer.");
  }
}

function lose(why) {
  line.classList.add("lost");
  if (state.textContent !== why) announcer.textContent = why;
  state.textContent = why;
  again(SLOWER_MS);
}

function again(ms) {
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(refresh, ms);
}

button.type = "button";
button.textContent = "Pause";
button.addEventListener("click", () => {
  paused = !paused;
  button.textContent = paused ? "Go on" : "Pause";
  if (paused) state.textContent = "Paused";
  again(0);
});
document.addEventListener("visibilitychange", () => again(0));

if (parts().length > 0) {
  state.textContent = "Live";
  line.append(state, button);
  again(EVERY_MS);
}
// What was done is said once.
if (new URL(location.href).searchParams.has("said")) {
  const address = new URL(location.href);
  address.searchParams.delete("said");
  history.replaceState(null, "", address);
}
