/* A log that follows its end until the reader scrolls up; a window of 5,000 lines; search filters in place. */
const WINDOW = 5000;

class PkLog extends HTMLElement {
  connectedCallback() {
    this.view = this.querySelector("[data-log]");
    this.follow = this.querySelector("[data-follow]");
    this.search = this.querySelector("[data-log-search]");
    if (!this.view) return;
    this.view.addEventListener("scroll", () => this.noticeScroll());
    this.follow?.addEventListener("change", () => this.toEnd());
    this.search?.addEventListener("input", () => this.filter());
    this.observer = new MutationObserver((changes) => this.grown(changes));
    this.observer.observe(this.view, { childList: true });
    this.toEnd();
  }

  disconnectedCallback() { this.observer?.disconnect(); }

  grown(changes) {
    for (const change of changes) for (const line of change.addedNodes) this.replaceEarlier(line);
    while (this.view.childElementCount > WINDOW) this.view.firstElementChild.remove();
    this.filter();
    this.toEnd();
  }

  /* The stream repeats the line it was in; the newer text of a number wins. */
  replaceEarlier(line) {
    if (!line.id) return;
    for (const other of this.view.querySelectorAll(`[id="${line.id}"]`)) if (other !== line) other.remove();
  }

  noticeScroll() {
    if (!this.follow) return;
    const gap = this.view.scrollHeight - this.view.scrollTop - this.view.clientHeight;
    this.follow.checked = gap < 24;
  }

  toEnd() { if (this.follow?.checked && !location.hash.startsWith("#L")) this.view.scrollTop = this.view.scrollHeight; }

  filter() {
    const words = this.search?.value.trim().toLowerCase() ?? "";
    for (const line of this.view.children) line.hidden = words !== "" && !line.textContent.toLowerCase().includes(words);
  }
}
customElements.define("pk-log", PkLog);
