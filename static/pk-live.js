/* Keeps a live run honest: resumes the stream where it stopped, falls back to polling, says so when data is stale. */
const RETRY_MS = 3000;
const POLL_MS = 2000;

class PkLive extends HTMLElement {
  connectedCallback() {
    this.errors = 0;
    this.lastId = this.dataset.after ?? "";
    this.badge = this.querySelector("[data-stale]");
    const plain = htmx.createEventSource;
    htmx.createEventSource = (url) => {
      const source = plain(this.resumed(url));
      for (const kind of ["status", "trial", "best", "eta", "log", "done", "resync"]) source.addEventListener(kind, (event) => this.heard(kind, event));
      return source;
    };
    this.addEventListener("htmx:sseError", () => this.failed());
    this.addEventListener("htmx:sseOpen", () => this.well());
    window.addEventListener("online", () => this.again());
    window.addEventListener("offline", () => this.stale("live paused, offline"));
  }

  resumed(url) {
    const target = new URL(url, location.href);
    if (this.lastId) target.searchParams.set("after", this.lastId);
    return target.toString();
  }

  heard(kind, event) {
    if (event.lastEventId) this.lastId = event.lastEventId;
    this.well();
    if (kind === "done") this.finished();
    if (kind === "resync") this.refresh();
  }

  well() { this.errors = 0; if (this.badge) this.badge.hidden = true; }

  stale(words) { if (this.badge) { this.badge.hidden = false; this.badge.textContent = words; } }

  failed() {
    this.errors += 1;
    this.stale(`live paused, retrying in ${RETRY_MS / 1000} s`);
    if (this.errors >= 2 && !this.polling) this.poll();
  }

  again() { this.refresh(); }

  poll() {
    this.polling = setInterval(() => { if (!document.hidden) this.refresh(); }, POLL_MS);
    this.refresh();
  }

  async refresh() {
    try {
      const answer = await fetch(`${this.dataset.poll}?after=${encodeURIComponent(this.dataset.token ?? "")}`, { headers: { "HX-Request": "true" } });
      if (answer.status === 286) { this.finished(); return; }
      if (answer.status === 200) {
        this.dataset.token = answer.headers.get("X-Parka-Token") ?? "";
        Idiomorph.morph(this.querySelector("#live-run"), await answer.text(), { ignoreActiveValue: true });
        htmx.process(this.querySelector("#live-run"));
      }
      if (answer.ok) this.stale(this.polling ? "polling every 2 s" : "");
      if (this.badge && !this.polling) this.badge.hidden = true;
    } catch {
      this.stale(`live paused, retrying in ${POLL_MS / 1000} s`);
    }
  }

  finished() {
    clearInterval(this.polling);
    window.pk?.announce("The run has ended. Opening its scorecard.");
    location.reload();
  }
}
customElements.define("pk-live", PkLive);
