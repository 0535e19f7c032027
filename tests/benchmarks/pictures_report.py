"""The pictures of docs/report.md: a report on made-up numbers and scikit-image's photographs, in a real browser.

    .venv/bin/python tests/benchmarks/pictures_report.py docs/pictures

The photographs are scikit-image's `astronaut` (NASA, public domain), `chelsea` and `coffee` (CC0).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipeline.evaluation.report import write_report
from pipeline.evaluation.report_data import ReportData
from tests.report_data import full_report

SIDE = 192
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


def crops() -> list[tuple[str, str, NDArray[np.uint8]]]:
    """Crops spread over three photographs."""
    import skimage.data

    found = []
    for name in ("astronaut", "chelsea", "coffee"):
        photo = getattr(skimage.data, name)()
        tops, lefts = ([0, (length - SIDE) // 2, length - SIDE] for length in photo.shape[:2])
        places = [(top, left) for top in tops[::2] for left in lefts]
        found += [
            (f"{name}-{index + 1}", "photographs", photo[top : top + SIDE, left : left + SIDE])
            for index, (top, left) in enumerate(places)
        ]
    return found


def _smaller(path: Path) -> None:
    """Half of the bytes, by a palette."""
    from PIL import Image

    with Image.open(path) as picture:
        palette = picture.convert("RGB").quantize(256, dither=Image.Dither.FLOYDSTEINBERG)
    palette.save(path, optimize=True)


def main() -> None:
    """Write report.png, report-viewer.png and report-phone.png."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))))
    content = full_report(crops())
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "report.html"
        write_report(path, ReportData(**content))
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 1340}, color_scheme="light")
        page.goto(path.as_uri())
        page.screenshot(path=options.folder / "report.png")
        page.set_viewport_size({"width": 1440, "height": 1000})
        page.locator(".tile").nth(10).click()
        page.keyboard.press("0")
        for _ in range(6):
            page.keyboard.press("ArrowLeft")
        page.screenshot(path=options.folder / "report-viewer.png")
        phone = browser.new_page(viewport={"width": 400, "height": 860}, color_scheme="dark", device_scale_factor=1.5)
        phone.goto(path.as_uri())
        phone.evaluate("document.querySelector('#sheet').scrollIntoView({behavior: 'instant'})")
        phone.wait_for_timeout(300)
        phone.screenshot(path=options.folder / "report-phone.png")
        browser.close()
    _smaller(options.folder / "report.png")


if __name__ == "__main__":
    main()
