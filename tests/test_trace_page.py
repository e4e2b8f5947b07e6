"""The page of `numpy-rnn trace --html` in a real headless Chromium: it works by mouse, keyboard and screen reader."""

from __future__ import annotations

import json
import re

import browser as browsers
import pytest
from click.testing import CliRunner

from numpy_rnn.cli import command

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
pytestmark = [pytest.mark.pages, pytest.mark.skipif(browsers.executable() is None, reason=browsers.MISSING)]

CELLS = ("rnn", "lstm", "gru")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    for cell in CELLS:
        done = CliRunner().invoke(command, ["trace", "--cell", cell, "--html", str(folder / f"{cell}.html")])
        assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def browser():
    with browsers.chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser, files):
    """A function that opens a cell's page; afterwards nothing may have gone wrong, nor come from the network."""
    contexts, complaints, requests = [], [], []

    def opened(cell, width=1400, height=900, address="", **options):
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((files / f"{cell}.html").as_uri() + address)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in requests if url.startswith("file:")]) == len(contexts)


def data_of(page):
    return json.loads(page.locator("#data").text_content())


def where(page):
    return page.locator("#where").text_content()


def count(page):
    return page.locator("#count").text_content()


def plain(text):
    """Without the marks that only look different: minus signs, and names whose subscripts are elements."""
    return text.replace("−", "-").replace("_", "").replace("{", "").replace("}", "")


def names_of(moment):
    return f"{moment['direction'].capitalize()}, step {moment['step']}, equation ({moment['number']})"


# A box of a table is measured within its table, which may scroll sideways to the step; labels of rows stay in view.
PLACES = """() => ({
    boxes: [...document.querySelectorAll("header, section, footer, .bar, .bar button, #slider, #ticks span, #graph svg,"
        + " #now, #jacobian, caption span, th:first-child")].filter((e) => e.checkVisibility()).map((e) => {
            const { x, y, width, height } = e.getBoundingClientRect();
            return [e.id || e.textContent.slice(0, 20) || e.tagName, x, y, width, height];
        }),
    cells: [...document.querySelectorAll("td, thead th + th")].map((e) =>
        [e.textContent.slice(0, 20), e.offsetLeft, e.offsetTop, e.offsetWidth, e.offsetHeight]),
})"""


@pytest.mark.parametrize(("cell", "width"), [*((cell, 1400) for cell in CELLS), ("lstm", 400), ("lstm", 800)])
def test_every_moment_has_its_place_and_nothing_moves(opened, cell, width):
    page = opened(cell, width, 900)
    data, slider, places = data_of(page), page.get_by_role("slider"), page.evaluate(PLACES)
    assert len(places["boxes"]) > 30
    assert len(places["cells"]) > 60
    moments = data["moments"]
    assert (slider.get_attribute("min"), slider.get_attribute("max")) == ("1", str(len(moments)))
    slider.focus()
    for n, moment in enumerate(moments):
        name = names_of(moment)
        assert (where(page), count(page)) == (name, f"{n + 1} / {len(moments)}")
        assert slider.get_attribute("aria-valuetext") == name
        assert page.locator("#live").text_content().startswith(name)
        found = page.evaluate(PLACES)
        for kind in ("boxes", "cells"):
            moved = [(old, new) for old, new in zip(places[kind], found[kind], strict=True) if old != new]
            assert moved == [], name
        if width == 1400:  # graph, equations and results stand in one window
            shown = page.locator("#now .new").count()
            assert shown == sum(len(data["lines"][line]["outputs"]) for line in moment["lines"])
            panel = page.locator("#now").bounding_box()
            assert panel["y"] + panel["height"] <= 900
            assert page.locator("#now").evaluate("now => now.scrollHeight <= now.clientHeight"), name
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == str(len(moments))  # the last move had nowhere to go
    assert width < 1400 or page.locator("#graph").bounding_box()["y"] >= 0
    page.keyboard.press("Home")
    assert where(page).startswith(names_of(moments[0]))


def test_the_page_moves_by_keys_buttons_and_by_itself(opened):
    page = opened("gru")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert count(page).startswith("2 / ")
    page.keyboard.press("End")
    assert where(page).startswith("Backward, step 0, equation (1')")
    assert page.get_by_role("slider").input_value() == page.get_by_role("slider").get_attribute("max")
    page.get_by_role("button", name="Previous moment").click()
    assert where(page).startswith("Backward, step 0, equation (2')")
    page.get_by_role("button", name="First moment").click()
    page.clock.install()
    page.get_by_role("button", name="Play").click()
    page.clock.run_for(5000)
    assert count(page).startswith("4 / ")
    page.get_by_role("button", name="Pause").click()
    page.clock.run_for(5000)
    assert count(page).startswith("4 / ")


def test_hover_and_focus_show_equation_numbers_and_code(opened):
    page = opened("lstm")
    page.keyboard.press("End")
    data = data_of(page)
    tip = page.get_by_role("tooltip")
    buttons = page.locator("#values td button.value")
    seen = 0
    for button in [buttons.nth(n) for n in range(0, buttons.count(), 6)]:
        value = data["values"][int(button.get_attribute("data-value"))]
        if value["line"] is None:  # given, folded away
            continue
        line = data["lines"][value["line"]]
        button.hover()
        assert tip.is_visible()
        said = plain(tip.text_content())
        assert plain(line["equation"]) in said
        for row in value["rows"]:
            for number in row:
                assert f"{number:.4f}" in said or abs(number) < 5e-5
        assert line["code"]
        for code in line["code"]:
            assert plain(f"{code['file'].split('/')[-1]}:{code['line']}{code['text']}") in said
        page.keyboard.press("Escape")
        assert not tip.is_visible()
        button.focus()
        assert tip.is_visible()
        assert button.get_attribute("aria-describedby") == "tip"
        seen += 1
    assert seen > 5


def test_arrow_keys_move_among_the_values_of_a_table(opened):
    page = opened("lstm")
    page.keyboard.press("End")
    table = page.locator("#values table").first
    stops = table.locator("button.value[tabindex='0']")
    assert stops.count() == 1  # one stop of the Tab key
    stops.focus()
    first = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    assert first.startswith("a_i_0: ")
    assert second.startswith("a_f_1: ")
    assert where(page).startswith("Backward, step 0")  # the moment stayed


def test_values_appear_when_their_moment_comes(opened):
    page = opened("lstm")
    data = data_of(page)
    for key, direction in (("Home", "forward"), ("End", "backward")):
        page.keyboard.press(key)
        known = {
            data["values"][int(v)]["name"]
            for v in page.locator("#values td:not(.todo) .value").evaluate_all("all => all.map(b => b.dataset.value)")
        }
        assert ("h_3" in known) == (direction == "backward")
        assert ("dW_hh" in known) == (direction == "backward")
        assert "a_i_0" in known
        assert page.locator("#jacobian").is_visible() == (direction == "backward")


def test_a_node_of_the_graph_is_a_button_that_goes_to_its_moment(opened):
    page = opened("lstm")
    page.keyboard.press("End")
    state = page.locator("#graph").get_by_role("button", name=re.compile(r"^c_2: "))
    state.focus()
    assert page.get_by_role("tooltip").is_visible()
    page.keyboard.press("Enter")
    assert where(page).startswith("Forward, step 1, equation (3)")
    page.get_by_role("button", name="Cell, step 2").click()
    assert where(page).startswith("Forward, step 2, equation (1)")


def test_the_jacobian_takes_the_gradient_to_the_step_before(opened):
    page = opened("lstm")
    data = data_of(page)
    page.keyboard.press("End")
    grids = page.locator("#jacobian .sum").first.locator(".grid")
    shown = [[float(t.replace("−", "-")) for t in grids.nth(n).locator(".n").all_text_contents()] for n in range(4)]
    (j,) = (j for j in data["jacobians"] if j["step"] == 0)
    S = len(j["arrived"])
    rows = [shown[0][k : k + S] for k in range(0, S * S, S)]
    result = [sum(a * b for a, b in zip(row, shown[1])) + sent for row, sent in zip(rows, shown[2])]
    assert result == pytest.approx(shown[3], abs=S * 5e-4)  # of what has four decimals
    assert shown[3] == pytest.approx([v for (v,) in j["result"]], abs=5e-5)


def test_labels_of_rows_stay_in_view_when_a_table_scrolls(opened):
    page = opened("lstm", 400)
    page.keyboard.press("End")
    box = page.locator("#values .scroll").nth(1)
    label = box.locator("tbody th").first
    before = label.bounding_box()
    assert box.evaluate("box => (box.scrollLeft = 0, box.scrollLeft = 200, box.scrollLeft)") == 200
    assert label.bounding_box() == before


def test_every_gradient_that_arrives_is_in_the_graph(opened):
    for cell, names in (("lstm", ["G_1", "G_2", "G_3", "K_h", "K_c"]), ("gru", ["G_1", "G_2", "G_3", "K_h"])):
        page = opened(cell)
        graph = page.locator("#graph")
        for name in names:
            assert graph.get_by_role("button", name=re.compile(f"^{name}: ")).count() == 1
        assert graph.get_by_role("button", name=re.compile("^[GK]_")).count() == len(names)


def test_the_address_holds_the_moment(opened):
    page = opened("lstm", address="#moment=17")
    assert where(page) == "Backward, step 1, equation (4')"
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**/lstm.html#moment=18")
    page.evaluate("location.hash = '#moment=3'")  # as a link within the page, or the user, does
    page.wait_for_function("document.querySelector('#slider').value === '3'")
    assert where(page) == "Forward, step 0, equation (3)"
    for address, shown in (("#moment=99", "24 / 24"), ("#moment=x", "1 / 24")):
        assert count(opened("lstm", address=address)) == shown


@pytest.mark.parametrize("width", [400, 800, 1400])
def test_nothing_is_wider_than_the_window(opened, width):
    page = opened("lstm", width)
    for key in ("Home", "End"):
        page.keyboard.press(key)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#values td.new button").last.focus()
    box = page.get_by_role("tooltip").bounding_box()
    assert 0 <= box["x"] <= width - box["width"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark(opened, scheme):
    page = opened("rnn", color_scheme=scheme)
    paper, ink = (page.evaluate(f"getComputedStyle(document.body).{what}") for what in ("backgroundColor", "color"))
    light = {name: sum(map(int, re.findall(r"\d+", value)[:3])) for name, value in (("paper", paper), ("ink", ink))}
    assert (light["paper"] > light["ink"]) == (scheme == "light")


def test_nothing_moves_for_those_who_do_not_want_it(opened):
    def duration(page):
        return page.evaluate("getComputedStyle(document.querySelector('svg .edge')).transitionDuration")

    assert duration(opened("rnn", reduced_motion="reduce")) == "0s"
    assert duration(opened("rnn", reduced_motion="no-preference")) != "0s"


@pytest.mark.parametrize(("scheme", "width"), [("light", 400), ("dark", 1400)])
def test_axe_finds_nothing(opened, scheme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = opened("lstm", width, color_scheme=scheme, reduced_motion="reduce")
    page.locator("summary").first.click()
    for key in ("Home", "End"):
        page.keyboard.press(key)
        results = axe.Axe().run(page)
        assert results.response["passes"]  # it did look
        found = [
            (v["id"], v["nodes"][0]["html"][:200], v["nodes"][0].get("failureSummary"))
            for v in results.response["violations"]
        ]
        assert found == [], key


def test_the_page_is_small(files):
    for cell in CELLS:
        assert (files / f"{cell}.html").stat().st_size <= 150_000


def test_wrong_gradients_are_said_on_the_page(browser, files, tmp_path):
    page_text = (files / "rnn.html").read_text(encoding="utf-8")
    broken = re.sub(r'"ok":true', '"ok":false', page_text, count=1)
    assert broken != page_text
    (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "broken.html").as_uri())
    assert page.locator("#verdict.bad").text_content().startswith("They differ")
    page.close()
