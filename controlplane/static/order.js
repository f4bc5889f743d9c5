/* Ordering a list by drag or keyboard, sent as a whole. Without this file the arrow buttons post one move at a time. */
(() => {
  "use strict";

  const list = document.querySelector("[data-order]");
  const form = document.getElementById("order-form");
  if (!list || !form) return;
  const said = document.getElementById("order-said");
  const rows = () => [...list.querySelectorAll("[data-id]")];
  const ids = () => rows().map((row) => row.dataset.id);
  const seen = ids();

  const refresh = () => {
    const all = rows();
    all.forEach((row, place) => {
      row.querySelector("[data-place]").textContent = String(place + 1);
      row.querySelector('[value="up"]').disabled = place === 0;
      row.querySelector('[value="down"]').disabled = place === all.length - 1;
    });
    const order = ids();
    form.elements.order.value = order.join(",");
    form.hidden = order.join() === seen.join();
  };

  const say = (row) => {
    const place = rows().indexOf(row) + 1;
    said.textContent = `${row.dataset.name}: place ${place} of ${rows().length}.${form.hidden ? " As it is saved." : " Not saved yet."}`;
  };

  const move = (row, place) => {
    const others = rows().filter((other) => other !== row);
    const target = Math.max(0, Math.min(place, others.length));
    list.insertBefore(row, others[target] ?? null);
    refresh();
    say(row);
  };

  const restore = () => {
    const byId = new Map(rows().map((row) => [row.dataset.id, row]));
    for (const id of seen) list.append(byId.get(id));
    refresh();
    said.textContent = "The order is as it was.";
  };

  list.addEventListener("keydown", (event) => {
    const handle = event.target.closest("[data-handle]");
    if (!handle || event.altKey || event.ctrlKey || event.metaKey) return;
    const row = handle.closest("[data-id]");
    const place = rows().indexOf(row);
    const wanted = { ArrowUp: place - 1, ArrowDown: place + 1, Home: 0, End: rows().length }[event.key];
    if (event.key === "Escape") restore();
    else if (wanted !== undefined) move(row, wanted);
    else return;
    event.preventDefault();
    handle.focus();
  });

  // The arrow buttons keep their words; here they only move, and one button saves it all.
  list.addEventListener("click", (event) => {
    const button = event.target.closest('button[name="direction"]');
    if (!button) return;
    event.preventDefault();
    const row = button.closest("[data-id]");
    move(row, rows().indexOf(row) + (button.value === "up" ? -1 : 1));
    (button.disabled ? row.querySelector("[data-handle]") : button).focus();
  });

  let dragged = null;
  list.addEventListener("pointerdown", (event) => {
    const handle = event.target.closest("[data-handle]");
    if (!handle || event.button !== 0) return;
    dragged = handle.closest("[data-id]");
    dragged.classList.add("dragged");
    handle.setPointerCapture(event.pointerId);
    event.preventDefault();
    handle.focus();
  });
  list.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    const others = rows().filter((row) => row !== dragged);
    const before = others.find((row) => {
      const box = row.getBoundingClientRect();
      return event.clientY < box.top + box.height / 2;
    });
    if ((before ?? null) !== dragged.nextElementSibling) list.insertBefore(dragged, before ?? null);
  });
  const drop = () => {
    if (!dragged) return;
    dragged.classList.remove("dragged");
    refresh();
    say(dragged);
    dragged = null;
  };
  list.addEventListener("pointerup", drop);
  list.addEventListener("pointercancel", drop);

  document.getElementById("order-undo").addEventListener("click", restore);
  for (const handle of list.querySelectorAll("[data-handle]")) handle.hidden = false;
  document.getElementById("order-help").hidden = false;
})();
