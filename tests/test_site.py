"""The site of docs/: it builds without a warning, and in a real browser its pages fit, work, and lead somewhere."""

from __future__ import annotations

import contextlib
import functools
import http.server
import io
import itertools
import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin

import browser as browsers
import pytest
from filelock import FileLock

from numpy_rnn.fast.registry import CELLS
from numpy_rnn.study.notation import formulas

pytest.importorskip("sphinx", reason="Sphinx is not installed: pip install '.[docs]'")
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WIDTHS = (400, 800, 1400)
# One page of each kind, for what takes long.
KINDS = (
    *("index", "index.zh", "learn/derivation/en/7-vanishing-gradients", "learn/derivation/zh/3-lstm", "learn/trace"),
    *("verify/bug-zoo", "learn/gru-reset.zh", "use/benchmarks", "api/textbook", "search"),
)
pytestmark = pytest.mark.pages
in_a_browser = pytest.mark.skipif(browsers.executable() is None, reason=browsers.MISSING)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The site, built once for all processes of a run, with every fortieth mistake in the generated tables."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "site"
    with FileLock(f"{folder}.lock"):
        if not (folder / "index.html").exists():
            command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-D", "every_nth_mistake=40"]
            done = subprocess.run([*command, str(DOCS), str(folder)], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    """Every page but the sources of modules, relative to the site."""
    files = (path.relative_to(site) for path in site.rglob("*.html"))
    return sorted(str(f) for f in files if f.parts[0] not in ("_modules", "_static", "_downloads"))


# ---- without a browser


class Page(HTMLParser):
    """What a page links to, and what can be linked to in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links, self.anchors = set(), {""}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links |= {found[name] for name in ("href", "src") if found.get(name)}
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}


def test_every_link_inside_the_site_leads_somewhere(site, pages):
    read = functools.cache(lambda path: Page(path.read_text(encoding="utf-8")))
    checked = 0
    for page in pages:
        for link in read(site / page).links:
            target, anchor = urldefrag(urljoin(f"http://site/{page}", link).removeprefix("http://site/"))
            if re.match(r"[a-z]+:", link):
                continue
            path = site / unquote(target.partition("?")[0])
            assert path.is_file(), f"{page}: {link}"
            if path.suffix == ".html" and path.relative_to(site).parts[0] != "trace":
                assert unquote(anchor) in read(path).anchors, f"{page}: {link}"
            checked += 1
    assert checked > 1000


def test_every_document_is_in_the_navigation(site, pages):
    linked = Page((site / "index.html").read_text(encoding="utf-8")).links
    documents = {str(p.relative_to(DOCS).with_suffix(".html")) for p in DOCS.rglob("*.md") if p.name != "README.zh.md"}
    documents |= {"learn/derivation/README.zh.html"}
    assert documents <= set(pages)
    assert documents - {"index.html"} <= linked


def test_formulas_are_mathematics(site):
    """Every displayed formula of the derivations, one element for each term; no text of the notation is left over."""
    for source in (DOCS / "learn" / "derivation").glob("*/*.md"):
        page = (site / source.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
        text = source.read_text(encoding="utf-8")
        blocks = re.findall(r"^```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        assert page.count('<p class="formula') == sum(len(formulas(block)) for block in blocks) > 0
        numbers = {f.number for block in blocks for f in formulas(block)}
        assert len(re.findall('id="eq-', page)) == len(numbers)
        assert "highlight-text" not in page


def test_the_first_page_has_the_formulas_of_page_2():
    def displayed(page):
        blocks = re.findall(r"^```text\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        return {formula for block in blocks for formula in formulas(block)}

    assert displayed(DOCS / "index.md") <= displayed(DOCS / "learn/derivation/en/2-rnn.md")
    assert len(displayed(DOCS / "index.md")) == 9


@pytest.mark.parametrize("page", ["verify/check", "verify/what-now", "use/layers"])
def test_examples_print_what_stands_below_them(page):
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    namespace: dict[str, object] = {}
    for (language, code), (kind, expected) in itertools.pairwise([*found, ("", "")]):
        if language == "python":
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
            assert printed.getvalue() == (expected if kind == "text" else "")
    assert namespace


# ---- in a browser


class Handler(http.server.SimpleHTTPRequestHandler):
    """Says nothing."""

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def opened(site):
    """A function that opens a page; whatever a page complains of, or asks of another host, is an error in the end."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    home = f"http://127.0.0.1:{server.server_port}/"
    complaints: list[str] = []
    with browsers.chromium() as browser:
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"{page.url}: {error}"))
        page.on("request", lambda r: None if r.url.startswith((home, "data:")) else complaints.append(r.url))

        def open_page(name, width=1400):
            page.set_viewport_size({"width": width, "height": 900})
            page.goto(home + name)
            return page

        yield open_page
    server.shutdown()
    server.server_close()
    assert complaints == []


@in_a_browser
def test_no_page_is_wider_than_the_window(opened, pages):
    wide = []
    for name in pages:
        page = opened(name)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            found = page.evaluate("document.documentElement.scrollWidth")
            wide += [(name, width, found)] if found > width else []
    assert wide == []


@in_a_browser
@pytest.mark.parametrize(("kind", "width"), [*((kind, 400) for kind in KINDS), ("index", 800), ("learn/trace", 1400)])
def test_axe_finds_nothing(opened, kind, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(opened(f"{kind}.html", width))
    assert found.violations_count == 0, found.generate_report()


@in_a_browser
def test_the_trace_page_works_inside(opened):
    page = opened("learn/trace.html")
    frame = page.frame_locator("iframe")
    assert "Forward, step 0" in frame.locator("#where").text_content()
    frame.get_by_role("slider").fill("5")
    assert "Forward, step 1" in frame.locator("#where").text_content()
    page.get_by_role("link", name="GRU", exact=True).click()
    frame.get_by_text("GRU").first.wait_for()
    assert page.url.endswith("learn/trace.html")
    links = page.locator(".cells a")
    assert {Path(a.get_attribute("href")).stem for a in links.all()} == set(CELLS)


@in_a_browser
def test_search_finds_a_page(opened):
    page = opened("search.html?q=truncation")
    page.locator("#search-results a", has_text="Truncation and clipping").first.wait_for()


@in_a_browser
def test_pages_say_their_language(opened):
    for name, language in {"index": "en", "index.zh": "zh-CN", "learn/derivation/zh/3-lstm": "zh-CN"}.items():
        assert opened(f"{name}.html").locator("html").get_attribute("lang") == language
