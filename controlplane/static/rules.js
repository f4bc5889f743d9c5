/* The rule builder: Enter goes on to the next value, and an answer never overwrites what was typed meanwhile. */
(() => {
  "use strict";

  let typedAt = 0;
  let changedAt = 0;
  let goOnIn = null;
  let goOnSince = 0;
  // By request, when it was asked: answers may come late, and after newer questions.
  const asked = new WeakMap();

  const isBuilder = (event) => event.detail.target && event.detail.target.id === "rule-builder";

  document.addEventListener("input", (event) => {
    if (!event.target.closest("#rule-builder")) return;
    typedAt = performance.now();
    goOnIn = null;
  });
  document.addEventListener("change", () => { changedAt = performance.now(); });
  document.addEventListener("keydown", (event) => {
    const field = event.target;
    if (event.key !== "Enter" || field.tagName !== "INPUT" || !field.closest("#rule-builder .entry")) return;
    // Otherwise Enter would save the whole form.
    event.preventDefault();
    if (!field.value.trim()) return;
    goOnIn = field.closest("[data-row]").dataset.row;
    goOnSince = performance.now();
    field.dispatchEvent(new Event("change", { bubbles: true }));
  });

  document.addEventListener("htmx:beforeRequest", (event) => {
    if (isBuilder(event)) asked.set(event.detail.xhr, performance.now());
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    // Somebody is typing, or typed since the question: the change that ends the typing asks again.
    if (isBuilder(event) && (typedAt > changedAt || typedAt > asked.get(event.detail.xhr))) event.detail.shouldSwap = false;
  });
  document.addEventListener("htmx:afterSettle", (event) => {
    // The answer to an older question has no new field yet.
    if (goOnIn === null || !(asked.get(event.detail.xhr) >= goOnSince)) return;
    const fields = document.querySelectorAll(`[data-row="${goOnIn}"] .entry input`);
    goOnIn = null;
    if (fields.length) fields[fields.length - 1].focus();
  });
})();
