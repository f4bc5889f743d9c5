/* Small helps on top of pages that work without them: copy buttons, double-submit guard, live marks. */
(() => {
  "use strict";

  // The server writes times in the viewer's zone (accounts/zones.py); only the browser knows it.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (zone && !document.cookie.split("; ").includes(`tz=${zone}`)) {
    const secure = window.location.protocol === "https:" ? "; secure" : "";
    document.cookie = `tz=${zone}; path=/; max-age=31536000; samesite=lax${secure}`;
  }

  const say = (button, text) => {
    const before = button.textContent;
    button.textContent = text;
    window.setTimeout(() => { button.textContent = before; }, 1600);
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

  // A live part never lies: when polling fails it says since when it is old.
  const stale = () => { for (const mark of document.querySelectorAll("[data-live]")) mark.textContent = "Not reachable: this may be out of date."; };
  document.addEventListener("htmx:sendError", stale);
  document.addEventListener("htmx:responseError", stale);
})();
