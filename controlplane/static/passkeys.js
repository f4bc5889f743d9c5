// Passkeys (and copying recovery codes) on team domains: forms marked data-passkey ask the browser for a key and then post its answer like any form.
"use strict";

const toBytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
const toText = (buffer) =>
  btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
const withBytes = (list) => (list || []).map((item) => ({ ...item, id: toBytes(item.id) }));

async function ask(form, purpose) {
  const body = new URLSearchParams(new FormData(form));
  body.set("purpose", purpose);
  const answer = await fetch(form.dataset.options, { method: "POST", body, headers: { Accept: "application/json" } });
  const kind = answer.headers.get("Content-Type") || "";
  if (!kind.startsWith("application/json")) throw new Error("The server could not be asked. Reload the page and try again.");
  const given = await answer.json();
  if (!answer.ok) throw new Error(given.message);
  return given;
}

async function create(given) {
  const key = given.options.publicKey;
  const made = await navigator.credentials.create({
    publicKey: {
      ...key,
      challenge: toBytes(key.challenge),
      user: { ...key.user, id: toBytes(key.user.id) },
      excludeCredentials: withBytes(key.excludeCredentials),
    },
  });
  return {
    id: made.id, rawId: toText(made.rawId), type: made.type,
    response: {
      clientDataJSON: toText(made.response.clientDataJSON),
      attestationObject: toText(made.response.attestationObject),
    },
  };
}

async function get(given) {
  const key = given.options.publicKey;
  const made = await navigator.credentials.get({
    publicKey: { ...key, challenge: toBytes(key.challenge), allowCredentials: withBytes(key.allowCredentials) },
  });
  return {
    id: made.id, rawId: toText(made.rawId), type: made.type,
    response: {
      clientDataJSON: toText(made.response.clientDataJSON),
      authenticatorData: toText(made.response.authenticatorData),
      signature: toText(made.response.signature),
      userHandle: made.response.userHandle ? toText(made.response.userHandle) : null,
    },
  };
}

function explain(error) {
  if (error.name === "NotAllowedError") return "Nothing was confirmed: cancelled, or it took too long. Try again.";
  if (error.name === "InvalidStateError") return "This device or key is enrolled already.";
  return error.message;
}

for (const form of window.PublicKeyCredential ? document.querySelectorAll("form[data-passkey]") : []) {
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const purpose = form.dataset.passkey;
    const button = form.querySelector("button");
    const told = form.querySelector("[role=status]");
    button.disabled = true;
    told.textContent = "Follow your browser's or your key's instructions…";
    try {
      const given = await ask(form, purpose);
      const answer = purpose === "check" ? await get(given) : await create(given);
      form.elements.challenge.value = given.id;
      form.elements.answer.value = JSON.stringify(answer);
      form.submit();
    } catch (error) {
      told.textContent = explain(error);
      button.disabled = false;
    }
  });
}
for (const note of window.PublicKeyCredential ? document.querySelectorAll("[data-without-passkeys]") : []) note.hidden = true;
for (const button of navigator.clipboard ? document.querySelectorAll("[data-copy]") : []) {
  button.parentElement.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).innerText);
    button.textContent = "Copied";
  });
}
