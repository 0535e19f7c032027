"""The report in a real browser: nothing is loaded, the viewer works by every means, and everybody can read it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.report import write_report
from pipeline.evaluation.report_data import ReportData
from tests.report_data import full_report

playwright_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
SIDE = 48
TILES = 4


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with playwright_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def page_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    import skimage.data

    photo = skimage.data.astronaut()
    cleans = [
        (EVIL if index == 1 else f"photo {index}", "portrait", photo[90 * index :, 150:][:SIDE, :SIDE])
        for index in range(TILES)
    ]
    content = full_report(cleans, noises=1)
    content["title"] = f"a report {EVIL}"
    content["commands"] = [EVIL, *content["commands"]]
    path: Path = tmp_path_factory.mktemp("browser") / "report.html"
    write_report(path, ReportData(**content))
    return path.as_uri()


@contextmanager
def opened(browser: Any, url: str, **options: Any) -> Iterator[Any]:
    """A page whose every complaint and request is kept under ``told``."""
    options = {"viewport": {"width": 1000, "height": 800}} | options
    context = browser.new_context(**options)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: told.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (told.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("data:", url)) else told.append(f"request: {request.url}"),
    )
    page.told = told
    page.goto(url)
    try:
        yield page
    finally:
        context.close()


def violations(page: Any, within: str = "") -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}}
    found = Axe().run(page, context=within or None, options=options).response["violations"]
    return [
        f"{one['id']}: {node['html'][:160]} {node['failureSummary'][:300]}" for one in found for node in one["nodes"]
    ]


def slider(page: Any) -> int:
    return int(page.locator("#v-handle").get_attribute("aria-valuenow"))


def open_tile(page: Any, index: int = 2) -> Any:
    tile = page.locator(".tile").nth(index)
    tile.click()
    page.locator("#viewer[open]").wait_for()
    return tile


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1000, 1600])
def test_nothing_goes_wrong_at_any_width_in_light_and_dark(browser, page_url, width, scheme) -> None:
    size = {"width": width, "height": 800}
    with opened(browser, page_url, viewport=size, color_scheme=scheme) as page:
        for summary in page.locator("summary").all():
            summary.click()
        over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        open_tile(page)
        inside = page.locator("#viewer").evaluate(
            "d => d.scrollWidth <= d.clientWidth && d.scrollHeight <= d.clientHeight"
        )
        assert page.told == []
    assert over == 0
    assert inside
    assert (sum(map(int, paper[4:-1].split(","))) > 600) == (scheme == "light")


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        (400, "dark"),
        (1600, "light"),
        pytest.param(400, "light", marks=pytest.mark.slow),
        pytest.param(1600, "dark", marks=pytest.mark.slow),
    ],
)
def test_contrast_names_and_roles_pass_axe(browser, page_url, width, scheme) -> None:
    with opened(
        browser, page_url, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True
    ) as page:
        for summary in page.locator("summary").all():
            summary.click()
        assert violations(page) == []
        open_tile(page)
        assert violations(page, "#viewer") == []


def test_the_page_is_whole_without_script(browser, page_url) -> None:
    with opened(browser, page_url, java_script_enabled=False) as page:
        assert page.locator(".tile img").count() == 2 * TILES
        assert page.locator("#theme").is_hidden()
        assert page.locator("section").count() == 12
        assert "Click the head" not in page.locator("#images").inner_text()
        assert page.told == []


def test_hostile_names_are_shown_and_do_not_run(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        assert EVIL in page.locator("h1").inner_text()
        open_tile(page, 1)
        assert page.locator("#v-name").inner_text() == EVIL
        page.keyboard.press("n")
        assert page.told == []
        assert page.locator("script").count() == 1


def test_the_policy_lets_no_other_script_run(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        page.evaluate("""() => {
            const script = document.createElement("script");
            script.textContent = "document.title = 'taken over'";
            document.body.append(script);
        }""")
        assert page.title() != "taken over"
        assert any("Content Security Policy" in line for line in page.told)


def test_the_slider_follows_the_mouse(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        open_tile(page)
        assert slider(page) == 50
        box = page.locator("#v-frame").bounding_box()
        middle = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] / 2, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 4, middle, steps=4)
        assert slider(page) == pytest.approx(25, abs=1)
        page.mouse.move(box["x"] - 200, middle)
        assert slider(page) == 0
        page.mouse.up()
        page.mouse.move(box["x"] + 0.9 * box["width"], middle)
        assert slider(page) == 0
        clip = page.locator("#v-clip").evaluate("e => e.style.clipPath")
        assert clip == "inset(0px 100% 0px 0px)"


def touch(session: Any, kind: str, *points: tuple[float, float]) -> None:
    touches = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


def test_the_slider_follows_a_finger_and_two_of_them_zoom(browser, page_url) -> None:
    size = {"width": 400, "height": 800}
    with opened(browser, page_url, viewport=size, has_touch=True, is_mobile=True, device_scale_factor=3) as page:
        page.locator(".tile").nth(2).tap()
        page.locator("#viewer[open]").wait_for()
        session = page.context.new_cdp_session(page)
        box = page.locator("#v-frame").bounding_box()
        x, y = box["x"], box["y"] + box["height"] / 2
        touch(session, "touchStart", (x + box["width"] / 2, y))
        for share in (0.55, 0.65, 0.75):
            touch(session, "touchMove", (x + share * box["width"], y + 4))
        touch(session, "touchEnd")
        assert slider(page) == pytest.approx(75, abs=1)
        for _ in range(4):
            page.keyboard.press("-")
        zoom = float(page.locator("#v-zoom").inner_text().rstrip("\u00d7"))
        middle = x + box["width"] / 2
        touch(session, "touchStart", (middle - 20, y), (middle + 20, y))
        touch(session, "touchMove", (middle - 28, y), (middle + 28, y))
        touch(session, "touchEnd")
        assert float(page.locator("#v-zoom").inner_text().rstrip("\u00d7")) == pytest.approx(1.4 * zoom, abs=0.06)
        assert page.told == []


def test_the_viewer_is_worked_by_keys_alone_and_gives_the_focus_back(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        page.locator(".tile").nth(2).focus()
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "v-handle"
        for key, value in (("ArrowRight", 52), ("ArrowUp", 54), ("ArrowLeft", 52), ("Home", 0), ("End", 100)):
            page.keyboard.press(key)
            assert slider(page) == value
        assert "noisy" in page.locator("#v-handle").get_attribute("aria-valuetext")
        page.keyboard.press("2")
        assert page.locator("#v-pairs [aria-pressed=true]").inner_text() == "denoised | clean"
        page.keyboard.press("4")
        assert page.locator("#v-under.tinted").count() == 1
        seen = set()
        for _ in range(20):
            page.keyboard.press("Tab")
            seen.add(page.evaluate("document.activeElement.closest('#viewer') ? document.activeElement.id : 'outside'"))
        assert "outside" not in seen
        assert {"v-handle", "v-close", "v-flip"} <= seen
        page.keyboard.press("n")
        assert page.locator("#v-count").inner_text().endswith(f"{2 + 3 + 2} of {TILES + 3}")
        page.keyboard.press("p")
        page.keyboard.press("Escape")
        assert page.locator("#viewer[open]").count() == 0
        assert page.evaluate("[...document.querySelectorAll('.tile')].indexOf(document.activeElement)") == 2


def test_zoom_is_by_nearest_neighbour_and_what_is_larger_than_the_frame_pans(browser, page_url) -> None:
    with opened(browser, page_url, viewport={"width": 400, "height": 700}) as page:
        open_tile(page)
        page.keyboard.press("0")
        for _ in range(9):
            page.keyboard.press("+")
        assert page.locator("#v-zoom").inner_text() == "8\u00d7"
        assert page.locator("#v-in").is_disabled()
        assert page.locator("#v-under").evaluate(
            "i => [i.getBoundingClientRect().width, getComputedStyle(i).imageRendering]"
        ) == [
            8 * SIDE,
            "pixelated",
        ]
        before = page.locator("#v-under").evaluate("i => i.getBoundingClientRect().x")
        assert before == pytest.approx(200 - 4 * SIDE, abs=0.5)
        box = page.locator("#v-frame").bounding_box()
        assert box["width"] < 8 * SIDE
        page.mouse.move(box["x"] + 20, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 23, box["y"] + 40, steps=2)
        page.mouse.up()
        assert page.locator("#v-under").evaluate("i => i.getBoundingClientRect().x") == pytest.approx(
            before + 3, abs=0.5
        )
        assert slider(page) == 50
        page.mouse.wheel(0, 400)
        page.wait_for_function("parseFloat(document.querySelector('#v-zoom').textContent) < 8")
        page.locator("#v-fit").click()
        frame = page.locator("#v-frame").bounding_box()
        assert frame["width"] <= 400
        assert page.locator("#v-frame.pans").count() == 0


def test_flipping_shows_one_and_then_the_other(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        open_tile(page)
        page.keyboard.press("f")
        first = slider(page)
        page.keyboard.press("f")
        assert {first, slider(page)} == {0, 100}


def test_pictures_by_rule_open_with_the_pair_that_was_clicked(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        page.locator(".picture").first.locator("[data-open=classical]").click()
        assert page.locator("#v-pairs [aria-pressed=true]").inner_text() == "NLM | ours"
        assert page.locator("#v-pairs button").count() == 5
        page.keyboard.press("5")
        assert page.locator("#v-under.tinted").count() == 0
        assert page.locator("#v-right").inner_text() == "removed"


def test_tables_sort_by_click_and_by_key(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        table = page.locator("table.images").first
        cells = table.locator("tbody tr td:nth-child(2)")
        head = table.locator("thead th").nth(1)
        head.locator("button").click()
        values = [float(text) for text in cells.all_inner_texts()]
        assert head.get_attribute("aria-sort") == "descending"
        assert values == sorted(values, reverse=True)
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == "ascending"
        assert [float(text) for text in cells.all_inner_texts()] == sorted(values)
        table.locator("thead button").first.click()
        names = table.locator("tbody th").all_inner_texts()
        assert names == sorted(names)
        assert head.get_attribute("aria-sort") == "none"
        assert "mean" in table.locator("tfoot").inner_text()


def test_the_colours_can_be_chosen(browser, page_url) -> None:
    with opened(browser, page_url, color_scheme="light") as page:

        def paper() -> int:
            return sum(map(int, page.evaluate("getComputedStyle(document.body).backgroundColor")[4:-1].split(",")))

        button = page.locator("#theme")
        assert paper() > 600
        button.click()
        assert button.get_attribute("aria-label") == "Colours: light"
        button.click()
        assert paper() < 150
        button.click()
        assert paper() > 600


def test_a_residual_is_tinted_as_its_legend(browser, page_url) -> None:
    with opened(browser, page_url) as page:
        open_tile(page)
        page.keyboard.press("4")
        page.keyboard.press("Home")
        shot = page.locator("#v-frame").screenshot()
    import io

    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
    # Blue below zero, red above, next to nothing is grey or green.
    red, green, blue = (pixels[40:-10, 40:-10, channel] for channel in range(3))
    assert (red > blue + 30).mean() > 0.1
    assert (blue > red + 30).mean() > 0.1
    assert (green > np.maximum(red, blue) + 12).mean() < 0.01
