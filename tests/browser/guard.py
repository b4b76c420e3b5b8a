"""On every browser test: no policy violation, no console or page error, no foreign request, one h1, a language."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Error, Page, Request, Response

WATCH = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error("securitypolicyviolation " + event.violatedDirective + " " + event.blockedURI);
});
window.addEventListener("load", () => {
  if (window !== window.top || !location.protocol.startsWith("http")) return;
  const headings = document.querySelectorAll("h1").length;
  if (headings !== 1) console.error(headings + " h1 on " + location.href);
  if (!document.documentElement.lang) console.error("no lang on " + location.href);
});
"""


@dataclass
class Guard:
    """Collects what no page may do; ``check`` fails with all of it."""

    wrong: list[str] = field(default_factory=list)
    allowed: list[re.Pattern[str]] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """A test that provokes an error names it; the guard stays on for everything else."""
        self.allowed.append(re.compile(pattern))

    def watch(self, context: BrowserContext) -> None:
        context.add_init_script(WATCH)
        context.on("page", self._watch_page)

    def check(self) -> None:
        left = [one for one in self.wrong if not any(pattern.search(one) for pattern in self.allowed)]
        assert not left, "\n".join(left)

    def _watch_page(self, page: Page) -> None:
        page.on("console", self._on_console)
        page.on("pageerror", self._on_page_error)
        page.on("request", lambda request: self._on_request(page, request))
        page.on("response", self._on_response)

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(f"console {message.type}: {message.text}")

    def _on_page_error(self, error: Error) -> None:
        self.wrong.append(f"page error: {error}")

    def _on_request(self, page: Page, request: Request) -> None:
        here, there = urlsplit(page.url), urlsplit(request.url)
        if there.scheme in ("http", "https") and here.netloc and there.netloc != here.netloc:
            self.wrong.append(f"foreign request: {request.url}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 500:
            self.wrong.append(f"server error {response.status}: {response.url}")
