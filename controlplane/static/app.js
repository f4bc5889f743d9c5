/* Small helps on top of pages that work without them: copy buttons, double-submit guard, live marks. */
(() => {
  "use strict";

  // The server writes times, and counts days, in the viewer's zone (accounts/zones.py); only the browser knows it.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.includes(`zone=${encodeURIComponent(zone)}`)) {
    const secure = window.location.protocol === "https:" ? "; secure" : "";
    document.cookie = `zone=${encodeURIComponent(zone)}; path=/; max-age=31536000; samesite=lax${secure}`;
  }

  // What a button did is said aloud, too: its own label stays what it does.
  const aloud = document.body.appendChild(document.createElement("p"));
  aloud.className = "visually-hidden";
  aloud.setAttribute("role", "status");

  // Where tabs are wider than the window, the one that is open is in view.
  for (const current of document.querySelectorAll(".tabs [aria-current]")) {
    const tabs = current.closest(".tabs"), place = current.getBoundingClientRect(), room = tabs.getBoundingClientRect();
    if (place.right > room.right) tabs.scrollLeft = place.left - room.left - (room.width - place.width) / 2;
  }

  const say = (button, text) => {
    if (button.dataset.saying) return;
    const before = [...button.childNodes];
    button.dataset.saying = "yes";
    button.replaceChildren(text);
    aloud.textContent = text;
    window.setTimeout(() => { button.replaceChildren(...before); delete button.dataset.saying; aloud.textContent = ""; }, 1600);
  };

  const textOf = (button) => {
    const source = document.getElementById(button.dataset.copy);
    return source ? (source.value ?? source.textContent) : "";
  };

  const selectAll = (button) => {
    const source = document.getElementById(button.dataset.copy);
    if (source) window.getSelection().selectAllChildren(source);
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("button[data-copy]");
    if (!button) return;
    try {
      await navigator.clipboard.writeText(textOf(button));
      say(button, "Copied");
    } catch {
      // Without HTTPS browsers keep the clipboard closed: select, so that one key press copies.
      selectAll(button);
      say(button, "Press Ctrl+C");
    }
  });

  // A form is sent once. Buttons stay as they are for the request itself (their name and value belong to it).
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post" || form.target === "_blank") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    window.setTimeout(() => { for (const button of form.querySelectorAll("button")) button.setAttribute("aria-disabled", "true"); }, 0);
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) {
      delete form.dataset.sent;
      for (const button of form.querySelectorAll("button")) button.removeAttribute("aria-disabled");
    }
  });

  const reveal = (root) => {
    for (const button of root.querySelectorAll("button[data-copy][hidden]")) button.hidden = false;
  };
  reveal(document);

  document.addEventListener("htmx:afterSwap", (event) => reveal(event.target.ownerDocument));
  // Live parts: nothing is asked for while nobody looks, and nobody loses the focus or a selection to an update.
  const polls = (event) => event.detail.requestConfig && event.detail.requestConfig.verb === "get";
  const inUse = (part) => {
    const selection = window.getSelection();
    return part.contains(document.activeElement) || (!selection.isCollapsed && part.contains(selection.anchorNode));
  };
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (polls(event) && document.hidden) event.preventDefault();
  });
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    const signedOut = xhr.responseURL && new URL(xhr.responseURL).pathname.startsWith("/accounts/");
    if (signedOut) window.location.reload();
    if (signedOut || (polls(event) && inUse(target))) event.detail.shouldSwap = false;
  });

  // A press on a button leaves the field before it, which asks about what was typed there. The answer must not move the
  // button away between press and release, or the click is lost: such a question waits for the release.
  let press = null;
  const release = (ended) => window.setTimeout(() => {
    ended.done();
    if (press === ended) press = null;
  }, 0);
  document.addEventListener("pointerdown", (event) => {
    // A list that opens may swallow the release.
    if (press || event.target.closest("select")) return;
    const begun = {};
    begun.over = new Promise((resolve) => { begun.done = resolve; });
    press = begun;
    window.setTimeout(() => release(begun), 2000);
  }, true);
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => { if (press) release(press); }, true);
  }
  document.addEventListener("htmx:confirm", (event) => {
    if (!press || event.detail.question) return;
    event.preventDefault();
    const form = event.detail.elt.closest("form");
    press.over.then(() => { if (!form || !form.dataset.sent) event.detail.issueRequest(true); });
  });

  // The palette: search from anywhere. Without it the link in the top bar leads to the page of the search.
  const palette = document.getElementById("palette");
  const query = document.getElementById("palette-query");
  const typing = (element) => element && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
  const openPalette = () => {
    if (palette.open) return;
    palette.showModal();
    query.select();
    query.form.dispatchEvent(new Event("palette-opened"));
  };
  const step = (by) => {
    const links = [...palette.querySelectorAll("#palette-results a")];
    if (!links.length) return;
    const at = links.indexOf(document.activeElement) + by;
    if (at < 0) query.focus();
    else links[Math.min(at, links.length - 1)].focus();
  };
  if (palette) {
    document.addEventListener("keydown", (event) => {
      const wanted = (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target))
        || (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey);
      if (wanted) { event.preventDefault(); openPalette(); }
    });
    document.addEventListener("click", (event) => {
      const opener = event.target.closest("a[data-palette]");
      if (opener && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); openPalette(); }
      if (event.target === palette) palette.close();
    });
    palette.addEventListener("keydown", (event) => {
      const first = palette.querySelector("#palette-results a");
      // A search field takes the first Escape for itself, to clear its text.
      if (event.key === "Escape") { event.preventDefault(); palette.close(); }
      else if (event.key === "ArrowDown") { event.preventDefault(); step(1); }
      else if (event.key === "ArrowUp") { event.preventDefault(); step(-1); }
      else if (event.key === "Enter" && event.target === query && first && !event.isComposing) { event.preventDefault(); first.click(); }
    });
  }

  // A live part never lies: when polling fails it says since when it is old.
  const stale = () => { for (const mark of document.querySelectorAll("[data-live]")) mark.textContent = "Not reachable: this may be out of date."; };
  document.addEventListener("htmx:sendError", stale);
  document.addEventListener("htmx:responseError", stale);
})();
