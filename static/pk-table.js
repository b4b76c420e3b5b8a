/* Row selection: shift-click ranges, j/k/x, and a bar that turns the chosen rows into a comparison. */
class PkTable extends HTMLElement {
  connectedCallback() {
    this.bar = this.querySelector("[data-selection]");
    this.last = null;
    this.addEventListener("click", (event) => this.range(event));
    this.addEventListener("change", () => this.redraw());
    document.addEventListener("keydown", (event) => this.key(event));
    this.redraw();
  }

  get boxes() { return [...this.querySelectorAll('tbody input[type="checkbox"][name="runs"]')]; }

  range(event) {
    const box = event.target.closest('input[type="checkbox"][name="runs"]');
    if (!box) return;
    if (event.shiftKey && this.last) {
      const all = this.boxes;
      const [from, to] = [all.indexOf(this.last), all.indexOf(box)].sort((a, b) => a - b);
      for (const other of all.slice(from, to + 1)) other.checked = box.checked;
      this.redraw();
    }
    this.last = box;
  }

  key(event) {
    if (event.target.closest("input:not([type=checkbox]), textarea, select, dialog[open]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const rows = this.boxes.map((box) => box.closest("tr"));
    const now = rows.findIndex((row) => row.contains(document.activeElement));
    if (event.key === "j" || event.key === "k") {
      const next = rows[Math.min(Math.max(now + (event.key === "j" ? 1 : -1), 0), rows.length - 1)];
      next?.querySelector("a, input")?.focus();
    }
    if (event.key === "x" && now >= 0) { const box = this.boxes[now]; box.checked = !box.checked; this.redraw(); }
    if (event.key === "c" && this.chosen >= 2) this.querySelector("form")?.requestSubmit();
  }

  redraw() {
    for (const box of this.boxes) box.closest("tr").setAttribute("aria-selected", String(box.checked));
    this.chosen = this.boxes.filter((box) => box.checked).length;
    if (!this.bar) return;
    this.bar.hidden = this.chosen === 0;
    const count = this.bar.querySelector("[data-count]");
    if (count) count.textContent = this.chosen === 1 ? "1 run selected, choose one more to compare" : `${this.chosen} runs selected`;
    const button = this.bar.querySelector('button[type="submit"]');
    if (button) button.disabled = this.chosen < 2;
  }
}
customElements.define("pk-table", PkTable);
