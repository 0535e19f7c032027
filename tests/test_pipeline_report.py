import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.data.folders import scan
from pipeline.data.images import Image, from_float, read_image, write_image
from pipeline.errors import UserError
from pipeline.evaluation import run_report
from pipeline.evaluation.encoding import (
    image_url,
    log_curve,
    log_ticks,
    residual_limit,
    residual_url,
    smoothed,
    step_ticks,
)
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.pictures import CROP, choose_rows, contact_sheet, pictures_of_pairs, pictures_of_photos
from pipeline.evaluation.report import command_line, render_report, write_report

EVIL = '<script>alert("x")</script>&\u202e'


def row(name, noisy, model, detail=1.0, brightness=0.5, **baselines):
    def values(psnr):
        return {"psnr_rgb_u8": psnr, "ssim_gauss11_rgb": 0.9}

    return {
        "name": name,
        "noisy": values(noisy),
        "model": values(model),
        "baselines": {key: values(value) for key, value in baselines.items()},
        "detail": detail,
        "brightness": brightness,
        "seconds": 0.1,
    }


def evaluation(rows, **top):
    names = list(rows[0]["baselines"])

    def mean(values):
        return {"psnr_rgb_u8": float(np.mean([v["psnr_rgb_u8"] for v in values])), "ssim_gauss11_rgb": 0.9}

    return {
        "layout": "pairs",
        "protocol": "full images",
        "model": "runs/x",
        "data": "data",
        "n": len(rows),
        "available": len(rows),
        **mean([r["model"] for r in rows]),
        "noisy": mean([r["noisy"] for r in rows]),
        "baselines": {name: mean([r["baselines"][name] for r in rows]) for name in names},
        "images": rows,
        "unpaired": [],
        **top,
    }


def picture(seed=0, clean=True, **extra):
    generator = np.random.default_rng(seed)
    crops = generator.random((4, 40, 48, 3), dtype=np.float32)
    named = {
        "noisy": crops[0],
        "baseline": crops[1],
        "denoised": crops[2],
        "clean": crops[3] if clean else None,
    }
    return {
        "name": f"p{seed}",
        "baseline_name": "nlm",
        "rule": "hardest",
        "reason": "because",
        **named,
        **extra,
    }


def render(**kwargs):
    defaults = {"title": "t", "run": None, "evaluation": None, "pictures": [], "commands": []}
    return render_report(**(defaults | kwargs))


class Reader(HTMLParser):
    """Collects tags, attribute values and text, and checks that every tag is closed."""

    VOID = frozenset({"meta", "img", "input", "br", "path"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.values, self.text = [], [], [], ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [value or "" for _, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, _attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_every_section_has_its_data_and_empty_ones_are_left_out():
    history = [{"step": s, "loss": 1 / (s + 1), "lr": 1e-3, "seconds": s * 60.0} for s in range(0, 200, 10)]
    rows = [row("a", 30.0, 33.0, nlm=32.0), row("b", 31.0, 30.5, nlm=32.0)]
    full = render(
        run={"history": history, "config": {"network": {"kind": "unet"}}, "facts": {"sha": "abc"}},
        evaluation=evaluation(rows),
        pictures=[picture()],
        commands=["unveil train"],
    )
    text = Reader(full).text
    for part in (
        "Look for yourself",
        "Training",
        "Every image",
        "network.kind",
        "unveil train",
        "abc",
        "non-local",
    ):
        assert part in text, part
    assert "3 h 10 min" in text
    empty = Reader(render()).text
    for part in ("Look for yourself", "Training", "Every image", "PSNR"):
        assert part not in empty, part


def test_the_verdict_is_said_even_when_it_is_bad():
    good = render(evaluation=evaluation([row("a", 30.0, 33.0, nlm=32.0)]))
    assert "3.0 dB above the noisy input and 1.0 dB above non-local means" in good
    bad = render(evaluation=evaluation([row("a", 30.0, 29.0, nlm=32.0, tv=31.0)]))
    assert "1.0 dB below the noisy input and 3.0 dB below non-local means (NLM), the best of the classical" in bad
    assert "level with the noisy input" in render(evaluation=evaluation([row("a", 30.0, 30.02)]))


def test_everything_from_outside_is_escaped():
    rows = [row(EVIL, 30.0, 33.0, nlm=32.0)]
    html = render(
        title=EVIL,
        run={"history": [], "config": {EVIL: EVIL}, "facts": {EVIL: EVIL}},
        evaluation=evaluation(rows, model=EVIL, data=EVIL, layout=EVIL, protocol=EVIL),
        pictures=[picture(name=EVIL, reason=EVIL, rule=EVIL, baseline_name=EVIL)],
        commands=[EVIL],
    )
    reader = Reader(html)
    assert "script" not in reader.tags
    assert "<script" not in html
    assert 'alert("x")' in reader.text


def test_nothing_is_loaded_from_anywhere():
    html = render(evaluation=evaluation([row("a", 30.0, 33.0)]), pictures=[picture()])
    bare = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]*", "data:", html)
    assert not re.search(r"https?:|//|@import|src=\"(?!data:)|url\((?!data:)", bare)
    assert "default-src 'none'" in html
    for value in Reader(html).values:
        assert "url(" not in value or "url(data:image/png;base64," in value


def test_a_real_report_stays_below_six_megabytes(tmp_path):
    generator = np.random.default_rng(0)
    crops = [
        {
            **picture(index),
            **{
                key: generator.random((CROP, CROP, 3), dtype=np.float32)
                for key in ("noisy", "baseline", "denoised", "clean")
            },
        }
        for index in range(3)
    ]
    rows = [row(f"image {i}", 30.0, 33.0, nlm=32.0, tv=31.0) for i in range(100)]
    write_report(
        tmp_path / "new" / "r.html",
        title="t",
        run=None,
        evaluation=evaluation(rows),
        pictures=crops,
        commands=[],
    )
    assert (tmp_path / "new" / "r.html").stat().st_size < 6e6


def test_a_name_that_is_no_text_does_not_stop_the_report(tmp_path):
    write_report(
        tmp_path / "r.html",
        title="bad \udcff name",
        run=None,
        evaluation=None,
        pictures=[picture(name="bad \udcff", clean=False)],
        commands=[],
    )
    assert b"bad" in (tmp_path / "r.html").read_bytes()


def test_equal_images_and_missing_values_do_not_break_the_report():
    rows = [row("a", None, None, nlm=None)]
    top = evaluation([row("a", 30.0, 31.0, nlm=30.0)])
    html = render(evaluation={**top, "images": rows, "noisy": rows[0]["noisy"], "psnr_rgb_u8": None})
    assert "equal" in Reader(html).text


def decode(url):
    return np.asarray(Pillow.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB")).astype(int)


def test_pictures_are_embedded_rounded():
    image = np.linspace(0, 1, 48, dtype=np.float32).reshape(4, 4, 3)
    assert np.array_equal(decode(image_url(image)), np.rint(image * 255))


def test_the_residual_scale_is_pale_at_zero_blue_below_red_above_and_symmetric():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])[None, :, None] * np.ones((1, 1, 3))
    blue2, blue, zero, red, red2 = decode(residual_url(values * 0.1, 0.1))[0]
    assert zero.min() > 240
    assert blue[2] > blue[0] + 60
    assert red[0] > red[2] + 60
    assert np.array_equal(blue, blue2)
    assert np.array_equal(red, red2)
    half = decode(residual_url(np.full((1, 1, 3), 0.05), 0.1))[0, 0]
    assert np.abs(half - (zero + red) / 2).max() <= 2


def test_one_scale_fits_the_widest_residual():
    generator = np.random.default_rng(0)
    narrow, wide = (generator.normal(0, s, (64, 64, 1)) for s in (0.01, 0.04))
    # 3 sigma; the standard deviation of a robust sigma over n = 4096 values is 1.17 sigma / sqrt(2 n): 1.3 %
    assert residual_limit([narrow, wide]) == pytest.approx(0.12, rel=0.065)
    assert residual_limit([]) == pytest.approx(2 / 255)


def test_curves_are_logarithmic_and_ticks_are_round():
    assert log_curve([0, 5, 10], [1.0, 0.1, 0.01], low=0.01, high=1.0, span=(0, 10)) == (
        "M0.0,0.0L500.0,500.0L1000.0,1000.0"
    )
    assert log_ticks(0.015, 0.3) == pytest.approx([0.02, 0.05, 0.1, 0.2])
    assert step_ticks(10, 2000) == [500, 1000, 1500, 2000]
    assert smoothed([2.0] * 9, 3) == pytest.approx([2.0] * 9)
    assert smoothed([1.0, 100.0, 1.0], 3)[1] == pytest.approx(100 ** (1 / 3))


def test_rows_are_chosen_by_the_stated_rules_each_once():
    rows = [
        row("bad", 30.0, 28.0, detail=5),
        row("black", 40.0, 42.5, detail=0, brightness=0.01),
        row("flat", 35.0, 39.0, detail=1),
        row("middle", 33.0, 34.0, detail=7),
        row("best", 33.0, 39.5, detail=9),
    ]
    chosen = {rule: picked["name"] for rule, picked in choose_rows(rows).items()}
    assert chosen == {"hardest": "bad", "typical": "black", "flattest": "flat"}
    assert [picked["name"] for picked in choose_rows(rows[:1]).values()] == ["bad"]


def halve_noise(image):
    return (image + image.mean(axis=(0, 1), keepdims=True)) / 2


def make_pairs(folder, count=4, side=210):
    generator = np.random.default_rng(0)
    for index in range(count):
        clean = np.full((side, side + 10, 3), 90 + 20 * index, np.float64)
        noisy = clean + generator.normal(0, 6 + index, clean.shape)
        for part, image in (("noisy", noisy), ("clean", clean)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
            write_image(folder / part / f"s{index}.png", Image(pixels=pixels))


def test_pictures_of_pairs_are_crops_of_one_shape_with_everything(tmp_path):
    make_pairs(tmp_path)
    result = evaluate(halve_noise, tmp_path, baselines=("tv",))
    pictures = pictures_of_pairs(halve_noise, result)
    assert [p["rule"] for p in pictures] == ["hardest", "typical", "flattest"]
    assert len({p["name"] for p in pictures}) == 3
    for p in pictures:
        assert {p[key].shape for key in ("noisy", "baseline", "denoised", "clean")} == {(CROP, CROP, 3)}
        assert p["baseline_name"] == "tv"


@pytest.mark.parametrize("count", [1, 2, 14])
def test_photos_without_partner_are_shown_too(tmp_path, count):
    make_pairs(tmp_path, count, side=64)
    pictures = pictures_of_photos(halve_noise, scan([tmp_path / "noisy"]), baseline="tv")
    assert len(pictures) == min(count, 3)
    assert len({p["name"] for p in pictures}) == len(pictures)
    assert all(p["clean"] is None for p in pictures)


def test_the_contact_sheet_has_a_row_a_picture_and_a_column_a_version(tmp_path):
    make_pairs(tmp_path)
    pictures = pictures_of_pairs(halve_noise, evaluate(halve_noise, tmp_path, baselines=("tv",)))
    sheet = contact_sheet(pictures)
    assert sheet.shape == (3 * CROP + 12, 4 * CROP + 18, 3)
    for row, picture in enumerate(pictures):
        for column, version in enumerate(("noisy", "baseline", "denoised", "clean")):
            top, left = row * (CROP + 6), column * (CROP + 6)
            assert np.array_equal(sheet[top : top + CROP, left : left + CROP], from_float(picture[version], np.uint8))
    assert (sheet[:, CROP : CROP + 6] == 255).all()


@pytest.fixture
def run_dir(tmp_path):
    from models import InferenceSpec, UNetSpec, build, save

    folder = tmp_path / "run"
    spec = UNetSpec(width=4, depth=1)
    folder.mkdir()
    save(folder / "weights", build(spec), spec=spec, inference=InferenceSpec(), card={})
    (folder / "config.json").write_text(json.dumps({"seed": 3, "network": {"width": 24}}))
    lines = [json.dumps({"step": s, "loss": 0.1 / (s + 1), "seconds": float(s)}) for s in range(20)]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n{cut")
    return folder


def test_a_run_is_reported_with_pairs_with_photos_and_alone(tmp_path, run_dir):
    make_pairs(tmp_path / "data")
    alone = run_report.report_run(run_dir)
    assert alone["psnr_rgb_u8"] is None
    assert alone["picture"] is None
    assert "network.width" in Path(alone["report"]).read_text()
    pairs = run_report.report_run(run_dir, data=tmp_path / "data", baselines=("tv",), limit=2)
    assert pairs["n"] == 2
    assert read_image(Path(pairs["picture"])).pixels.shape[2] == 3
    assert "Every image" in Path(pairs["report"]).read_text()
    photos = run_report.report_run(run_dir, data=tmp_path / "data" / "noisy", out=tmp_path / "p.html")
    assert photos["n"] is None
    assert "no clean partner" in (tmp_path / "p.html").read_text()
    run_report.report_run(run_dir, photos=scan([tmp_path / "data" / "noisy"])[:1], out=tmp_path / "q.html")
    assert (tmp_path / "q.html").read_text().count("<article") == 1


def test_a_stored_evaluation_is_shown_again(tmp_path, run_dir):
    make_pairs(tmp_path / "data")
    result = evaluate(halve_noise, tmp_path / "data", baselines=("tv",))
    (run_dir / "evaluation.json").write_text(json.dumps(result))
    again = run_report.report_run(run_dir)
    assert again["psnr_rgb_u8"] == result["psnr_rgb_u8"]
    assert "Look for yourself" in Path(again["report"]).read_text()


def test_what_is_no_run_is_one_clear_line(tmp_path, run_dir):
    with pytest.raises(UserError, match="expected a run folder"):
        run_report.report_run(tmp_path / "nothing")
    with pytest.raises(UserError, match="expected a weights folder"):
        run_report.report_run(tmp_path)
    with pytest.raises(UserError, match="found nothing there"):
        run_report.report_run(run_dir, data=tmp_path / "nothing")
    (run_dir / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run_report.report_run(run_dir)


def test_commands_are_quoted_for_the_shell():
    assert command_line("report", Path("my run"), data="d", limit=None) == "unveil report 'my run' --data d"
