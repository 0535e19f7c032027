import base64
import io
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from pipeline.data.folders import scan
from pipeline.data.images import Image, from_float, read_image, write_image
from pipeline.errors import UserError
from pipeline.evaluation import run_report
from pipeline.evaluation.case_sets import data_set
from pipeline.evaluation.contenders import OURS, Model
from pipeline.evaluation.encoding import image_url, residual_limit, residual_url, smoothed
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.pictures import choose_rows, contact_sheet, pictures_of_photos, pictures_of_set
from pipeline.evaluation.report import command_line, render_report, write_report
from pipeline.evaluation.report_charts import Scale, line, number, spaced, steps
from pipeline.evaluation.report_data import ReportData
from pipeline.evaluation.report_masks import mask_pictures
from pipeline.evaluation.report_sheet import sheet_board
from pipeline.evaluation.stored_evaluations import joined
from pipeline.evaluation.train_command import train_command
from pipeline.evaluation.windows import CROP
from tests.report_data import CONFIG, evaluation_of, full_report, image_row, one_set

EVIL = '<script>alert("x")</script>&\u202e'


def row(name, noisy, ours, detail=1.0, brightness=0.5, **baselines):
    return image_row(name, {"noisy": noisy, **baselines, "ours": ours}, detail=detail, brightness=brightness)


def evaluation(rows, labels=("ours",), **top):
    return evaluation_of([one_set(rows)], labels, **top)


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


def tile(seed=0, side=24, **extra):
    noisy, denoised, clean = np.random.default_rng(seed).integers(0, 256, (3, side, side, 3), np.uint8)
    return {"name": f"t{seed}", "set": "s", "noisy": noisy, "denoised": denoised, "clean": clean} | {
        "psnr_noisy": 20.0,
        "psnr_denoised": 25.0,
        **extra,
    }


def render(**kwargs):
    return render_report(ReportData(**({"title": "t"} | kwargs)))


class Reader(HTMLParser):
    """Collects tags, attribute values and text, and checks that every tag is closed."""

    VOID = frozenset({"meta", "img", "input", "br", "path", "circle"})

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
        "Pictures by rule",
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
    for part in ("Pictures by rule", "Training", "Every image", "PSNR"):
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
        run={
            "history": [],
            "config": {EVIL: EVIL, "network": {"kind": EVIL}, "method": {"kind": EVIL}, "data": {"path": EVIL}},
            "card": {"data": {"path": EVIL, "licence": EVIL, "hash": EVIL}},
            "facts": {EVIL: EVIL},
            "gate": {"passed": False, "why": EVIL, "measures": {}},
        },
        evaluation=evaluation_of(
            [
                one_set(rows, name=EVIL, data=EVIL, layout=EVIL, hash=EVIL, unpaired=[EVIL]),
                one_set(rows, name=f"{EVIL} 1", noise={"recipe": EVIL, "level": 1.0}, kind="synthetic"),
                one_set(rows, name=f"{EVIL} 2", noise={"recipe": EVIL, "level": 2.0}, kind="synthetic"),
            ],
            protocol={"name": EVIL, "text": EVIL},
            definitions={EVIL: EVIL},
            groups=[{"group": EVIL, "models": [EVIL], "sets": {EVIL: {}}}],
        ),
        pictures=[picture(name=EVIL, reason=EVIL, rule=EVIL, baseline_name=EVIL)],
        sheet=[tile(name=EVIL, set=EVIL)],
        noise=[{"label": EVIL, "channels": [{"name": EVIL, "curve": [[0.1, 1e-3, 1]], "shot": None, "read": None}]}],
        masks=[{"title": EVIL, "caption": EVIL, "pixels": np.zeros((4, 4, 3), np.uint8)}],
        analysis={
            "cka": [{"title": EVIL, "rows": [EVIL], "columns": [EVIL], "values": [[0.5]]}],
            "srga": [{"model": EVIL, "noise": EVIL, "value": 0.1}],
            "histograms": [{"model": EVIL, "noise": EVIL, "edges": [0, 1, 2], "density": [1, 2]}],
            "conclusion": [EVIL],
        },
        tune={
            "trials": [
                {
                    "key": f"{EVIL}{at}",
                    "number": at,
                    "state": EVIL,
                    "score": 1.0,
                    "rung": 1,
                    "overrides": {EVIL: EVIL * at},
                }
                for at in (1, 2)
            ],
            "importance": {"method": EVIL, "rung": 1, "trials": 8, "shares": {EVIL: 0.5}, "chance": {EVIL: 0.1}},
            "best": {"key": EVIL, "overrides": {EVIL: EVIL}},
            "score_name": EVIL,
            "score_definition": EVIL,
            "conclusion": [EVIL],
        },
        commands=[EVIL],
    )
    reader = Reader(html)
    # The only script is ours, and the policy of the page lets no other run.
    assert reader.tags.count("script") == 1
    assert html.count("<script") == 1
    assert "script-src 'sha256-" in html
    assert "alert" not in html[html.index("<script>") : html.index("</script>")]
    assert 'alert("x")' in reader.text


def test_nothing_is_loaded_from_anywhere():
    html = render(evaluation=evaluation([row("a", 30.0, 33.0)]), pictures=[picture()], sheet=[tile()])
    bare = re.sub(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]*", "data:", html)
    # url(#diverging) is the filter inside of the page.
    assert not re.search(r"https?:|//|@import|src=\"(?!data:)|url\((?!data:|#diverging\))", bare)
    assert "default-src 'none'" in html
    assert not any("url(" in value for value in Reader(html).values)


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
    write_report(tmp_path / "new" / "r.html", ReportData(title="t", evaluation=evaluation(rows), pictures=crops))
    assert (tmp_path / "new" / "r.html").stat().st_size < 6e6


def test_a_name_that_is_no_text_does_not_stop_the_report(tmp_path):
    pictures = [picture(name="bad \udcff", clean=False)]
    write_report(tmp_path / "r.html", ReportData(title="bad \udcff name", pictures=pictures))
    assert b"bad" in (tmp_path / "r.html").read_bytes()


def test_equal_images_and_missing_values_do_not_break_the_report():
    rows = [row("a", None, None, nlm=None)]
    html = render(evaluation=evaluation(rows))
    assert "equal" in Reader(html).text
    nothing = one_set([row("a", 30.0, 31.0)])
    nothing["methods"]["ours"] |= {"metrics": {}, "seconds_per_megapixel": None}
    nothing["images"][0]["methods"]["ours"]["metrics"] = {}
    Reader(render(evaluation=evaluation_of([nothing])))


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
    x, y = Scale(0, 10), Scale(0.01, 1.0, log=True)
    assert line([(0, 1.0), (5, 0.1), (10, 0.01)], x, y) == "M0.0,0.0L500.0,500.0L1000.0,1000.0"
    assert Scale(0.015, 0.3, log=True).ticks() == pytest.approx([0.02, 0.05, 0.1, 0.2])
    assert Scale(10, 2000).ticks(5) == [500, 1000, 1500, 2000]
    assert smoothed([2.0] * 9, 3) == pytest.approx([2.0] * 9)
    assert smoothed([1.0, 100.0, 1.0], 3)[1] == pytest.approx(100 ** (1 / 3))


def test_a_histogram_is_drawn_with_its_edges_and_falls_to_the_bottom():
    path = steps([0, 1, 2], [1.0, 0.5], Scale(0, 2), Scale(0, 1))
    assert path == "M0.0,1000.0L0.0,0.0L500.0,0.0L500.0,500.0L1000.0,500.0L1000.0,1000.0Z"


def test_labels_keep_their_distance_and_stay_inside():
    moved = spaced([0.5, 0.51, 0.98, 0.99], 0.1)
    assert moved == pytest.approx([0.5, 0.6, 0.9, 1.0])
    assert spaced([0.3, 0.8], 0.1) == [0.3, 0.8]


def test_numbers_are_short():
    assert [number(value) for value in (0, 1234.5, -0.25, 3e-5, 0.30000001, 2e7)] == [
        "0",
        "1,234" if round(1234.5) == 1234 else "1,235",
        "\N{MINUS SIGN}0.25",
        "3e\N{MINUS SIGN}5",
        "0.3",
        "2e7",
    ]


def test_rows_are_chosen_by_the_stated_rules_each_once():
    rows = [
        row("bad", 30.0, 28.0, detail=5),
        row("black", 40.0, 42.5, detail=0, brightness=0.01),
        row("flat", 35.0, 39.0, detail=1),
        row("middle", 33.0, 34.0, detail=7),
        row("best", 33.0, 39.5, detail=9),
    ]
    chosen = {rule: picked["name"] for rule, picked in choose_rows(rows, "ours").items()}
    assert chosen == {"hardest": "bad", "typical": "black", "flattest": "flat"}
    assert [picked["name"] for picked in choose_rows(rows[:1], "ours").values()] == ["bad"]


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


def pictures_on(folder):
    summary = evaluate(halve_noise, folder, baselines=("tv",))["sets"][0]
    return pictures_of_set(data_set(folder), summary, Model(label=OURS, denoiser=halve_noise), ("tv",))


def test_pictures_of_pairs_are_crops_of_one_shape_with_everything(tmp_path):
    make_pairs(tmp_path)
    pictures = pictures_on(tmp_path)
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
    pictures = pictures_on(tmp_path)
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
    make_pairs(tmp_path / "data", side=64)
    alone = run_report.report_run(run_dir)
    assert alone["psnr_rgb_u8"] is None
    assert alone["picture"] is None
    assert "network.width" in Path(alone["report"]).read_text()
    pairs = run_report.report_run(run_dir, data=[tmp_path / "data"], baselines=("tv",), limit=2)
    assert pairs["n"] == 2
    assert read_image(Path(pairs["picture"])).pixels.shape[2] == 3
    html = Path(pairs["report"]).read_text()
    assert "Every image" in html
    assert "Contact sheet" in html
    assert html.count('class="tile"') == 2
    photos = run_report.report_run(run_dir, data=[tmp_path / "data" / "noisy"], out=tmp_path / "p.html")
    assert photos["n"] is None
    assert "No clean image" in (tmp_path / "p.html").read_text()
    run_report.report_run(run_dir, photos=scan([tmp_path / "data" / "noisy"])[:1], out=tmp_path / "q.html")
    assert (tmp_path / "q.html").read_text().count("<article") == 1
    several = run_report.report_run(run_dir, data=[tmp_path / "data", tmp_path / "data" / "noisy"], baselines=())
    assert several["n"] == 4
    assert json.loads(Path(several["json"]).read_text())["evaluation"]["sets"][1]["kind"] == "photos"


def test_a_stored_evaluation_is_shown_again(tmp_path, run_dir):
    make_pairs(tmp_path / "data", side=64)
    result = evaluate(halve_noise, tmp_path / "data", baselines=("tv",))
    (run_dir / "evaluation.json").write_text(json.dumps(result))
    again = run_report.report_run(run_dir)
    assert again["psnr_rgb_u8"] == result["sets"][0]["methods"]["ours"]["metrics"]["psnr_rgb_u8"]["mean"]
    assert again["notes"] == []
    assert "Pictures by rule" in Path(again["report"]).read_text()


def test_an_evaluation_of_an_older_version_is_left_out_with_a_note(run_dir, tmp_path):
    (run_dir / "evaluation.json").write_text(json.dumps({"images": [], "noisy": {}, "psnr_rgb_u8": 30.0}))
    told = run_report.report_run(run_dir)
    assert "older version" in told["notes"][0]
    assert told["n"] is None
    with pytest.raises(UserError, match="expected an evaluation of format 2"):
        run_report.report_run(run_dir, evaluations=[run_dir / "evaluation.json"])


def test_what_is_no_run_is_one_clear_line(tmp_path, run_dir):
    with pytest.raises(UserError, match="expected a run folder"):
        run_report.report_run(tmp_path / "nothing")
    with pytest.raises(UserError, match="expected a weights folder"):
        run_report.report_run(tmp_path)
    with pytest.raises(UserError, match="nothing"):
        run_report.report_run(run_dir, data=[tmp_path / "nothing"])
    (run_dir / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run_report.report_run(run_dir)


def test_commands_are_quoted_for_the_shell():
    assert command_line("report", Path("my run"), data="d", limit=None) == "unveil report 'my run' --data d"
    assert command_line("report", "r", data=["a", "b"], record=True, track=False, out=[]) == (
        "unveil report r --data a --data b --record"
    )


def test_every_number_of_the_page_is_in_the_json_beside_it(tmp_path):
    cleans = [(f"c{i}", "s", np.full((24, 24, 3), 60 * i + 40, np.uint8)) for i in range(3)]
    write_report(tmp_path / "r.html", ReportData(**full_report(cleans)))
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["format"] == 1
    assert found["evaluation"]["sets"][0]["name"] == "camera pairs"
    assert found["sections"][0] == "scores"
    assert set(found["sections"]) >= {"levels", "sheet", "gate", "noise", "masks", "training", "tune", "analysis"}
    assert found["hashes"]["training data SHA-256"] == "c" * 64
    assert len(found["sheet"]) == 3
    assert "NaN" not in (tmp_path / "r.json").read_text()
    html = (tmp_path / "r.html").read_text()
    assert found["verdict"] in html
    for section in found["sections"]:
        assert f'<section id="{section}"' in html


def test_paired_tests_are_told_in_words():
    test = {"a": "ours", "b": "nlm", "metric": "psnr_rgb_u8", "wins": 20, "losses": 4, "n": 24}
    rows = [row("a", 30.0, 33.0, nlm=32.0)]

    def told(**values):
        one = one_set(rows, paired=[test | values])
        return " ".join(Reader(render(evaluation=evaluation_of([one]))).text.split())

    assert "ours beats NLM by 0.42 dB [0.30, 0.50], better on 20 of 24 images, p below 0.001" in told(
        difference=0.42, interval=[0.3, 0.5], p=4e-4
    )
    assert "ours falls behind NLM by 0.42 dB [0.30, 0.50]" in told(difference=-0.42, interval=[-0.5, -0.3], p=0.01)
    assert "ours and NLM differ by +0.10 dB" in told(difference=0.1, interval=[-0.1, 0.3], p=0.4)
    assert "p 0.030, corrected for the number of tests" in told(difference=0.1, interval=[0, 1], p=0.01, p_holm=0.03)
    # Three images cannot tell, however large the difference.
    assert "ours and NLM differ by +2.00 dB" in told(difference=2.0, interval=None, p=0.25)
    assert "ours and NLM differ by +2.00 dB" in told(difference=2.0, interval=[1.0, 3.0], p=0.03, p_holm=0.06)


def test_the_numbers_of_a_report_replace_those_of_a_report_only(tmp_path):
    for _ in range(2):
        write_report(tmp_path / "r.html", ReportData(title="t"))
    for text in ('{"format": 2, "sets": []}', "no JSON", "[]"):
        (tmp_path / "mine.json").write_text(text)
        with pytest.raises(UserError, match=r"mine\.json: expected nothing, or the numbers of an earlier report"):
            write_report(tmp_path / "mine.html", ReportData(title="t"))
        assert (tmp_path / "mine.json").read_text() == text
    assert not (tmp_path / "mine.html").exists()


def test_models_are_held_against_the_best_classical_denoiser_and_each_other():
    rows = [row("a", 30.0, 33.0, nlm=32.0, tv=31.0)]
    tests = [
        {"a": "ours", "b": b, "metric": "psnr_rgb_u8", "wins": 9, "losses": 0, "n": 9, "difference": 1.0}
        | {"interval": [0.5, 1.5], "p": 0.004}
        for b in ("noisy", "nlm", "tv")
    ]
    text = Reader(render(evaluation=evaluation_of([one_set(rows, paired=tests)]))).text
    assert "ours beats NLM" in text
    assert "ours beats TV" not in text
    assert "ours beats noisy" not in text


def test_levels_of_one_recipe_become_a_chart_and_their_boards_fold_away():
    sets = [
        one_set(
            [row("a", 30.0 - level, 33.0 - level, nlm=32.0)],
            name=f"set at {level}",
            kind="synthetic",
            noise={"recipe": "poisson", "level": level, "seed": 1},
        )
        for level in (1.0, 2.0, 3.0)
    ]
    html = render(evaluation=evaluation_of([*sets, one_set([row("b", 30.0, 31.0, nlm=30.5)], name="real")]))
    assert html.count("chart: poisson") == 1
    assert "The 3 sets of the level charts" in html
    assert "chart:" not in render(evaluation=evaluation_of(sets[:1]))


def test_models_and_sets_of_several_evaluations_are_laid_side_by_side():
    first, second = evaluation([row("a", 30.0, 33.0, nlm=32.0)]), evaluation([row("a", 30.0, 34.0, nlm=32.0)])
    second["models"][0] |= {"sha256": "b" * 64, "ref": "runs/other"}
    both = joined([first, second])
    assert [model["label"] for model in both["models"]] == ["ours", "other"]
    assert list(both["sets"][0]["methods"]) == ["noisy", "nlm", "ours", "other"]
    assert both["sets"][0]["images"][0]["methods"]["other"]["metrics"]["psnr_rgb_u8"] == 34.0
    assert list(first["sets"][0]["methods"]) == ["noisy", "nlm", "ours"]
    second["sets"][0]["hash"] = "another"
    assert [one["name"] for one in joined([first, second])["sets"]] == ["photos", "photos (2)"]


def test_the_sheet_keeps_its_budget_and_its_noise():
    rng = np.random.default_rng(0)
    flat = np.full((192, 192, 3), 128.0)
    items = [
        tile(index, noisy=np.clip(flat + rng.normal(0, 30, flat.shape), 0, 255).astype(np.uint8))
        | {"denoised": flat.astype(np.uint8), "clean": flat.astype(np.uint8)}
        for index in range(6)
    ]
    board = sheet_board(items)
    urls = [url for group in board["groups"] for each in group["tiles"] for url in each["urls"].values()]
    shown = decode(board["groups"][0]["tiles"][0]["urls"]["noisy"]).astype(float)
    assert sum(map(len, urls)) < 6.3e6
    # Colour noise too, of which WebP and chroma subsampling take half.
    for channel in range(3):
        assert shown[..., channel].std() == pytest.approx(items[0]["noisy"][..., channel].std(), rel=0.02)
    small = sheet_board(items, budget=150_000)
    urls = [url for group in small["groups"] for each in group["tiles"] for url in each["urls"].values()]
    assert sum(map(len, urls)) < 150_000
    assert small["side"] < board["side"]


def test_masks_are_drawn_as_the_run_has_them():
    drawn = mask_pictures(CONFIG)
    dark = [float((one["pixels"][..., 0] < 100).mean()) for one in drawn]
    assert [one["title"] for one in drawn][:2] == ["Input mask, 75 %, the least", "Input mask, 85 %, the most"]
    # 1024 pixels: a standard deviation of 1.4 %.
    assert dark[0] == pytest.approx(0.75, abs=0.06)
    assert dark[1] == pytest.approx(0.85, abs=0.06)
    assert sum("Attention mask, block" in one["title"] for one in drawn) == 2
    assert mask_pictures({"method": {"kind": "distilled"}, "network": {"kind": "unet"}}) == []
    spec = {"mask_count": 4, "hole": [3, 3], "hole_shape": "box", "layout": "lattice", "pd_stride": 2}
    asymmetric = {"method": {"kind": "asymmetric", **spec}, "inference": {"mode": "multi_mask", **spec}}
    assert [one["title"] for one in mask_pictures(asymmetric)] == ["36 masks in training", "36 masks in denoising"]


def test_the_training_command_gives_the_settings_again(tmp_path):
    from pipeline.config import dump, load_config

    config = load_config(preset="quick", overrides=["training.steps=77", "seed=5"], data=str(tmp_path))
    line = train_command(dump(config), Path("runs/x"))
    assert line is not None
    words = shlex.split(line)
    assert words[:6] == ["unveil", "train", "--data", str(tmp_path), "--out", "runs/x"]
    preset, overrides = words[words.index("--preset") + 1], words[words.index("--preset") + 2 :]
    assert dump(load_config(preset=preset, overrides=overrides, data=str(tmp_path))) == dump(config)
    assert (preset, sorted(overrides)) == ("quick", ["seed=5", "training.steps=77"])
