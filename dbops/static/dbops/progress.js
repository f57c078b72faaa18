"use strict";
// Keeps what shows a running operation up to date, and reloads the page when the operation ends.
{
  const EVERY = 1000;

  const toLogin = (place) => {
    const next = encodeURIComponent(location.pathname);
    location.assign(`${place.dataset.login}?next=${next}`);
  };

  const addLine = (list, line) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const text = document.createElement("span");
    item.className = `line-${line.kind}`;
    item.dataset.id = line.id;
    time.textContent = line.time;
    text.textContent = line.text;
    item.append(time, " ", text);
    list.append(item);
  };

  const show = (place, now) => {
    const bar = place.querySelector("progress");
    const pill = place.querySelector(".state .pill");
    const hint = place.querySelector("[data-hint]");
    const list = place.querySelector("[data-lines]");
    place.querySelector("[data-step]").textContent = now.step || (pill ? "" : now.status);
    if (now.progress === null) bar.removeAttribute("value");
    else bar.value = now.progress;
    if (pill) {
      pill.className = `pill pill-${now.status}`;
      pill.textContent = now.status;
    }
    if (hint) {
      hint.textContent = now.hint;
      hint.hidden = !now.hint;
    }
    if (list) now.lines.forEach((line) => addLine(list, line));
  };

  const lastLine = (place) => place.querySelector("[data-lines] li:last-child")?.dataset.id ?? 0;

  const ask = async (place) => {
    const url = `${place.dataset.progress}?after=${lastLine(place)}`;
    let answer;
    try {
      answer = await fetch(url, { redirect: "manual", cache: "no-store" });
    } catch {
      return true; // The console may be restarting: ask again.
    }
    // A copy or restore of the console's own database takes the session with it.
    if (answer.type === "opaqueredirect" || answer.status === 403) {
      toLogin(place);
      return false;
    }
    if (!answer.ok) return answer.status !== 404;
    const now = await answer.json();
    show(place, now);
    if (!now.active) location.reload();
    return now.active;
  };

  const follow = async (place) => {
    if (await ask(place)) setTimeout(() => follow(place), EVERY);
  };

  document.querySelectorAll("[data-progress]").forEach(follow);
}
