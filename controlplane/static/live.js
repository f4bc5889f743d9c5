/* Live parts of a page: <section id="x" data-poll="3" hx-get=... hx-trigger="poll" hx-select="#x" hx-swap="outerHTML">.
   Asked for every data-poll seconds while something changes, ever more rarely while nothing does, not at all while
   nobody looks. Inside, <p data-live> says as of when it is; it never claims to be current when it is not. */
(() => {
  "use strict";
  const SLOWEST = 30_000;
  const parts = new Map();

  const meaning = (part) => {
    const copy = part.cloneNode(true);
    for (const mark of copy.querySelectorAll("[data-live], time, input[type=hidden]")) mark.remove();
    return copy.textContent.replace(/\s+/g, " ");
  };
  const clock = (instant) => new Date(instant).toLocaleTimeString();

  const mark = (part, text) => {
    for (const line of part.querySelectorAll("[data-live]")) line.textContent = text;
  };

  const plan = (id) => {
    const known = parts.get(id);
    window.clearTimeout(known.timer);
    if (document.hidden) return;
    known.timer = window.setTimeout(() => {
      const part = document.getElementById(id);
      if (!part) parts.delete(id);
      // A question somebody is answering is not taken from under their hand.
      else if (part.querySelector("details.ask[open]")) plan(id);
      else window.htmx.trigger(part, "poll");
    }, known.delay);
  };

  const adopt = (root) => {
    for (const part of root.querySelectorAll("[data-poll]")) {
      if (parts.has(part.id)) continue;
      const base = Number(part.dataset.poll) * 1000;
      parts.set(part.id, { base, delay: base, seen: meaning(part), at: Date.now(), timer: 0 });
      plan(part.id);
    }
  };

  const answered = (id, succeeded) => {
    const known = parts.get(id), part = document.getElementById(id);
    if (!known) return;
    if (!part || !part.dataset.poll) { window.clearTimeout(known.timer); parts.delete(id); return; }
    if (succeeded) {
      const seen = meaning(part);
      known.base = Number(part.dataset.poll) * 1000;
      known.delay = seen === known.seen ? Math.min(known.delay * 1.3, Math.max(SLOWEST, known.base)) : known.base;
      known.seen = seen;
      known.at = Date.now();
    } else {
      known.delay = Math.min(known.delay * 2, 2 * SLOWEST);
      mark(part, `Not reachable: this is as of ${clock(known.at)} and may be out of date.`);
    }
    plan(id);
  };

  document.addEventListener("htmx:afterRequest", (event) => {
    const { elt, successful, requestConfig } = event.detail;
    if (requestConfig && requestConfig.verb === "get" && elt.id && parts.has(elt.id)) {
      window.setTimeout(() => { answered(elt.id, successful); adopt(document); }, 60);
    }
  });
  document.addEventListener("visibilitychange", () => {
    for (const [id, known] of parts) {
      const part = document.getElementById(id);
      if (!part) continue;
      if (document.hidden) {
        window.clearTimeout(known.timer);
        mark(part, `Not updated while hidden: as of ${clock(known.at)}.`);
      } else {
        known.delay = known.base;
        window.htmx.trigger(part, "poll");
      }
    }
  });
  // A machine that slept, or a request that never came back: what is shown is old, and says so.
  window.setInterval(() => {
    for (const [id, known] of parts) {
      const part = document.getElementById(id);
      if (part && !document.hidden && Date.now() - known.at > 3 * known.delay + 10_000) {
        mark(part, `No answer since ${clock(known.at)}: this may be out of date.`);
        plan(id);
      }
    }
  }, 10_000);
  window.addEventListener("load", () => adopt(document));
})();
