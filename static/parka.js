/* Shell behaviour: CSRF for htmx, focus and announcements, toasts, theme, dialogs, copying, submit guards, shortcuts. */
const body = document.body;
const csrf = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";
const icons = document.querySelector('meta[name="pk-icons"]')?.content ?? "";

export function announce(text) {
  const live = document.getElementById("live");
  if (live) live.textContent = text;
}

export function toast(text, kind = "info") {
  const box = document.createElement("div");
  box.className = "pk-toast";
  box.dataset.kind = kind;
  const words = document.createElement("span");
  words.textContent = text;
  const close = document.createElement("button");
  close.type = "button";
  close.className = "btn-close";
  close.setAttribute("aria-label", "Dismiss");
  close.dataset.dismiss = "";
  box.append(words, close);
  document.getElementById("toasts")?.append(box);
}

/* htmx */
body.addEventListener("htmx:configRequest", (event) => { event.detail.headers["X-CSRFToken"] = csrf(); });
body.addEventListener("pk:focus", (event) => document.getElementById(event.detail.value)?.focus());
body.addEventListener("pk:announce", (event) => announce(event.detail.value));
body.addEventListener("htmx:beforeRequest", (event) => event.detail.target?.setAttribute("aria-busy", "true"));
body.addEventListener("htmx:afterRequest", (event) => event.detail.target?.removeAttribute("aria-busy"));
body.addEventListener("htmx:sendError", () => toast("The server did not answer. What you typed is still here; try again.", "error"));
body.addEventListener("htmx:afterSwap", (event) => {
  const summary = event.detail.target?.querySelector?.("[data-error-summary]");
  if (summary) summary.focus();
});

/* Theme */
function setTheme(choice) {
  document.documentElement.setAttribute("data-theme-choice", choice);
  document.cookie = `pk_theme=${choice}; path=/; max-age=31536000; SameSite=Lax`;
  window.dispatchEvent(new Event("pk:theme"));
  for (const button of document.querySelectorAll("[data-theme-set]")) button.setAttribute("aria-pressed", String(button.dataset.themeSet === choice));
  announce(`Theme: ${choice}`);
}

function nextTheme() {
  setTheme(document.documentElement.getAttribute("data-bs-theme") === "dark" ? "light" : "dark");
}

/* One click listener for everything small */
async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  const text = source ? source.textContent.trim() : button.dataset.copyText || location.href;
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied");
    const label = button.querySelector("[data-label]") ?? button;
    const before = label.textContent;
    label.textContent = "Copied";
    setTimeout(() => { label.textContent = before; }, 1500);
  } catch {
    toast("The browser did not allow copying. Select the text and copy it by hand.", "error");
  }
}

document.addEventListener("click", (event) => {
  const at = (selector) => event.target.closest(selector);
  const dismiss = at("[data-dismiss]");
  if (dismiss) dismiss.closest(".pk-toast, .pk-note")?.remove();
  const theme = at("[data-theme-set]");
  if (theme) setTheme(theme.dataset.themeSet);
  const copier = at("[data-copy], [data-copy-text]");
  if (copier) copy(copier);
  const opener = at("[data-dialog]");
  if (opener) {
    const dialog = document.getElementById(opener.dataset.dialog);
    if (dialog) { event.preventDefault(); dialog.showModal(); }
  }
  const closer = at("[data-close-dialog]");
  if (closer) { event.preventDefault(); closer.closest("dialog")?.close(); }
  if (at("[data-print]")) window.print();
  for (const menu of document.querySelectorAll("details.pk-menu[open]")) if (!menu.contains(event.target)) menu.removeAttribute("open");
});

/* A form is sent once; coming back by the Back button frees it again. */
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented || event.target.method !== "post" || event.target.hasAttribute("hx-post")) return;
  for (const button of event.target.querySelectorAll('button[type="submit"]')) setTimeout(() => { button.disabled = true; });
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) for (const button of document.querySelectorAll('button[type="submit"][disabled]')) button.disabled = false;
});

/* Selects that act at once; without JavaScript the form has its own button. */
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-autosubmit]")) event.target.form?.requestSubmit();
});

/* Shortcuts: single keys, off while typing and when the person turned them off. */
const going = { h: "home", m: "models", d: "datasets", e: "experiments", r: "runs", c: "compare", a: "agents", s: "settings" };
let leader = false;
function typing(target) {
  return target.closest("input, textarea, select, [contenteditable], dialog[open]") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.pk-menu[open]")) { menu.removeAttribute("open"); menu.querySelector("summary")?.focus(); }
  if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target) || localStorage.getItem("pk_keys") === "off") return;
  if (leader) {
    leader = false;
    const link = document.querySelector(`[data-go="${going[event.key] ?? ""}"]`);
    if (link) { event.preventDefault(); location.href = link.href; }
    return;
  }
  const actions = {
    g: () => { leader = true; setTimeout(() => { leader = false; }, 1200); },
    n: () => document.querySelector('[data-go="new"]')?.click(),
    "/": () => document.querySelector('input[type="search"]')?.focus(),
    t: nextTheme,
    y: () => navigator.clipboard?.writeText(location.href).then(() => toast("Link copied."), () => {}),
    "?": () => document.getElementById("keys")?.showModal(),
  };
  if (actions[event.key]) { event.preventDefault(); actions[event.key](); }
});
const keySwitch = document.getElementById("keys-off");
if (keySwitch) {
  keySwitch.checked = localStorage.getItem("pk_keys") === "off";
  keySwitch.addEventListener("change", () => localStorage.setItem("pk_keys", keySwitch.checked ? "off" : "on"));
}

/* An error summary that came with the page takes the focus. */
document.querySelector("[data-error-summary]")?.focus();
window.pk = { announce, toast, csrf, icons };
