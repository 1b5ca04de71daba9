"""What the browser tests share: the built site's pages, and a visit that refuses to leave it."""
from __future__ import annotations

from playwright.sync_api import BrowserContext, Page, Route

from lib.files import BUILD

HTML = BUILD / "html"
ENTRY = "index.html"
"""The page that only leads to the first one."""


def pages() -> list[str]:
    """Every page of the built site but the entry, relative to it."""
    found = (p.relative_to(HTML) for p in HTML.rglob("*.html"))
    return sorted(p.as_posix() for p in found if not p.parts[0].startswith("_") and p.as_posix() != ENTRY)


class Visit:
    """A page of the site with what it asked for outside and what it complained about."""

    def __init__(self, context: BrowserContext, base: str):
        self.page: Page = context.new_page()
        self.base, self.outside, self.errors = base, [], []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        context.route(lambda url: not url.startswith((base, "data:", "blob:")), self.refuse)

    def refuse(self, route: Route) -> None:
        """Note a request that would leave the site, and stop it."""
        self.outside.append(route.request.url)
        route.abort()

    def open(self, path: str) -> Page:
        self.page.goto(f"{self.base}/{path}", wait_until="load")
        if self.page.locator(".math").count():
            self.page.wait_for_function("window.MathJax?.startup?.promise?.then(() => true)")
        return self.page

    def draw_figures(self) -> None:
        """Scroll to each interactive figure and wait until it is drawn."""
        for figure in self.page.locator(".plotly-figure").all():
            figure.scroll_into_view_if_needed()
            figure.locator(".main-svg").first.wait_for()
