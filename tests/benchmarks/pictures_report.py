"""The pictures of docs/report.md: the report of a run on scikit-image's photographs, in a real browser.

    .venv/bin/python tests/benchmarks/pictures_report.py --masked runs/masked --plain runs/plain docs/pictures

The two runs are those of docs/results/generalization.md, any two will do. Everything on the pictures is measured by
`unveil evaluate` and shown by `unveil report`. The photographs are scikit-image's `astronaut` (NASA, public domain),
`chelsea` and `coffee` (CC0).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.data.images import Image, write_image

SIDE = 256
NOISES = ("gaussian:15,25,35,50", "poisson:2,2.5,3,3.5", "spatial:40,50,60")
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")


def write_photos(folder: Path) -> None:
    """Cut crops out of three photographs."""
    import skimage.data

    folder.mkdir()
    for name in ("astronaut", "chelsea", "coffee"):
        photo = getattr(skimage.data, name)()
        tops, lefts = ((0, (length - SIDE) // 2, length - SIDE) for length in photo.shape[:2])
        for index, (top, left) in enumerate((top, left) for top in tops[::2] for left in lefts):
            pixels = photo[top : top + SIDE, left : left + SIDE]
            write_image(folder / f"{name}-{index + 1}.png", Image(pixels=pixels))


def unveil(*arguments: object) -> None:
    """Run a command of this program."""
    subprocess.run([sys.executable, "-m", "pipeline", *map(str, arguments)], check=True)


def make_report(folder: Path, masked: Path, plain: Path) -> Path:
    """Measure both runs and write the report of the masked one."""
    photos, pairs, levels, report = (folder / name for name in ("photographs", "pairs", "levels.json", "report.html"))
    write_photos(photos)
    unveil("synth", photos, pairs, "--recipe", "gaussian", "--level", "25", "--seed", "1")
    noises = [text for noise in NOISES for text in ("--noise", noise)]
    models = ("--model", f"masked={masked}", "--model", f"plain={plain}")
    unveil("evaluate", *models, "--clean", photos, *noises, "--out", levels)
    unveil("report", masked, "--data", pairs, "--evaluation", levels, "--out", report)
    return report


def take(report: Path, pictures: Path) -> None:
    """Take report.png, report-viewer.png and report-phone.png."""
    from playwright.sync_api import sync_playwright

    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_FLAGS))
        page = browser.new_page(viewport={"width": 1440, "height": 1340}, color_scheme="light")
        page.goto(report.absolute().as_uri())
        page.screenshot(path=pictures / "report.png")
        page.evaluate("document.querySelector('#levels').scrollIntoView({behavior: 'instant'})")
        page.set_viewport_size({"width": 1440, "height": 900})
        page.wait_for_timeout(300)
        page.screenshot(path=pictures / "report-levels.png")
        page.set_viewport_size({"width": 1440, "height": 1000})
        page.locator(".tile").nth(10).click()
        page.keyboard.press("0")
        for _ in range(6):
            page.keyboard.press("ArrowLeft")
        page.screenshot(path=pictures / "report-viewer.png")
        phone = browser.new_page(viewport={"width": 400, "height": 860}, color_scheme="dark", device_scale_factor=1.5)
        phone.goto(report.absolute().as_uri())
        phone.evaluate("document.querySelector('#sheet').scrollIntoView({behavior: 'instant'})")
        phone.wait_for_timeout(300)
        phone.screenshot(path=pictures / "report-phone.png")
        browser.close()
    for name in ("report.png", "report-levels.png", "report-viewer.png", "report-phone.png"):
        _smaller(pictures / name)


def _smaller(path: Path) -> None:
    """Half of the bytes, by a palette."""
    from PIL import Image as Pillow

    with Pillow.open(path) as picture:
        palette = picture.convert("RGB").quantize(256, dither=Pillow.Dither.FLOYDSTEINBERG)
    palette.save(path, optimize=True)


def main() -> None:
    """Make the report and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--masked", type=Path, required=True, help="run folder")
    parser.add_argument("--plain", type=Path, required=True, help="run folder")
    parser.add_argument("pictures", type=Path, help="folder to write to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        take(make_report(Path(folder), options.masked, options.plain), options.pictures)


if __name__ == "__main__":
    main()
