// Approves or denies the sign-in whose code stands in the address or is typed in.
"use strict";

const form = document.getElementById("decision");
const code = document.getElementById("user-code");
const token = document.getElementById("token");
const outcome = document.getElementById("outcome");
const client = document.getElementById("client").textContent;

const DECIDED = {
  approve: `Approved. ${client} is signed in within seconds; you can close this page.`,
  deny: `Denied. ${client} does not get in; you can close this page.`,
};
const UNKNOWN_TOKEN =
  "This token is not known here, or not any more: see that you have copied all of it.";
const UNREACHABLE = "The server cannot be reached: try again.";

function tell(text, refused) {
  outcome.textContent = text;
  outcome.className = refused ? "refused" : "";
  outcome.focus();
}

async function refusal(answer) {
  if (answer.status === 401) return UNKNOWN_TOKEN;
  try {
    return (await answer.json()).detail;
  } catch {
    return `The server answers ${answer.status}: try again later.`;
  }
}

async function decide(verb) {
  const shown = token.value.trim();
  if (!/^[\x21-\x7e]+$/.test(shown)) {  // no header can carry it
    tell(UNKNOWN_TOKEN, true);
    return;
  }
  // Relative to this page, so that it works below any prefix.
  const answer = await fetch(`api/v1/sign-ins/${verb}`, {
    method: "POST",
    headers: {
      Authorization: `Bearer ${shown}`,
      "Content-Type": "application/json",
    },
    body: JSON.stringify({ user_code: code.value }),
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
  });
  if (!answer.ok) {
    tell(await refusal(answer), true);
    return;
  }
  form.remove();
  tell(DECIDED[verb], false);
}

async function submitted(event) {
  event.preventDefault();
  const buttons = form.querySelectorAll("button");
  for (const button of buttons) button.disabled = true;
  try {
    await decide(event.submitter.value);
  } catch {
    tell(UNREACHABLE, true);
  } finally {
    token.value = "";
    for (const button of buttons) button.disabled = false;
  }
}

code.value = new URLSearchParams(location.search).get("user_code") ?? "";
form.addEventListener("submit", submitted);
form.hidden = false;
(code.value ? token : code).focus();
