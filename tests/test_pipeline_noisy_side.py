"""Which files are noisy: from names alone, without training on a clean one and without losing a photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config import load_config
from pipeline.data.folders import scan
from pipeline.data.images import Image, write_image
from pipeline.data.layouts import members
from pipeline.data.noisy_side import noisy_side, split_sides
from pipeline.errors import UserError
from pipeline.training.intake import read_source

SIDD = "0001_001_S6_00100_00060_3200_L"


def plant(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def taken(folder: Path, layout: str = "auto") -> list[str]:
    return [file.relative.as_posix() for file in noisy_side(scan([folder]), layout)]


def told(folder: Path, layout: str = "auto") -> str | None:
    return split_sides(scan([folder]), layout).told()


@pytest.mark.parametrize("prefix", ["0001_", ""])
def test_sidd_medium_and_small(tmp_path: Path, prefix: str) -> None:
    names = [f"Data/{SIDD}/{prefix}{side}_SRGB_{shot}.PNG" for side in ("NOISY", "GT") for shot in ("010", "011")]
    plant(tmp_path, *names, "Scene_Instances.txt")
    assert taken(tmp_path) == names[:2]
    assert told(tmp_path) == "SIDD tree: 2 noisy images, 2 clean ones are never opened"
    assert taken(tmp_path, "sidd") == names[:2]


def test_crops_cut_from_sidd_keep_their_sides(tmp_path: Path) -> None:
    plant(tmp_path, "input/0001_NOISY_SRGB_010_s003.png", "target/0001_GT_SRGB_010_s003.png")
    assert taken(tmp_path) == ["input/0001_NOISY_SRGB_010_s003.png"]


def test_polyu_crops_and_originals_in_any_letter_case(tmp_path: Path) -> None:
    plant(tmp_path, "CroppedImages/Canon5D2_5_160_3200_plug_12_real.JPG")
    plant(tmp_path, "CroppedImages/Canon5D2_5_160_3200_plug_12_mean.JPG")
    plant(tmp_path, "OriginalImages/Canon80D_GO_Real.JPG", "OriginalImages/Canon80D_GO_mean.JPG")
    plant(tmp_path, "OriginalImages/lonely_mean.JPG")
    assert taken(tmp_path) == [
        "CroppedImages/Canon5D2_5_160_3200_plug_12_real.JPG",
        "OriginalImages/Canon80D_GO_Real.JPG",
    ]
    assert told(tmp_path) == "PolyU tree: 2 noisy images, 3 clean ones are never opened"


def test_a_photo_with_a_name_like_polyus_is_kept(tmp_path: Path) -> None:
    names = ["a/beach.jpg", "a/my_mean.jpg", "a/real.jpg", "b/so_mean.jpg", "clean/window.jpg", "noisy.jpg"]
    plant(tmp_path, *names)
    assert taken(tmp_path) == names
    assert told(tmp_path) is None


def test_the_clean_file_of_a_pair_among_photos_is_left_out_and_told(tmp_path: Path) -> None:
    plant(tmp_path, "a.jpg", "x_real.jpg", "x_mean.jpg", "b/y_mean.jpg", "b/z.jpg")
    assert taken(tmp_path) == ["a.jpg", "b/y_mean.jpg", "b/z.jpg", "x_real.jpg"]
    assert told(tmp_path) == (
        "PolyU tree: 1 noisy image, 1 clean one is never opened; 3 images on neither side: trained on too "
        "(data.layout=polyu leaves such images out)"
    )
    assert taken(tmp_path, "polyu") == ["x_real.jpg"]
    assert told(tmp_path, "polyu") == (
        "PolyU tree: 1 noisy image, 2 clean ones are never opened; 2 images on neither side: left out"
    )


def test_pairs_at_any_depth_with_our_own_contact_sheet(tmp_path: Path) -> None:
    plant(tmp_path, "cc/noisy/a.png", "cc/noisy/deep/b.png", "cc/clean/a.png", "cc/clean/deep/b.png")
    plant(tmp_path, "cc/contact_sheet.png", "contact_sheet.png", "Noisy/c.png", "Clean/d.png", "other/clean/e.png")
    assert taken(tmp_path) == ["Noisy/c.png", "cc/noisy/a.png", "cc/noisy/deep/b.png", "other/clean/e.png"]
    assert taken(tmp_path / "cc", "pairs") == ["noisy/a.png", "noisy/deep/b.png"]


def test_nind_leaves_out_the_lowest_iso_of_each_scene_and_its_repeats(tmp_path: Path) -> None:
    plant(tmp_path, "NIND_droid_ISO200.jpg", "NIND_droid_ISO200-1.jpg", "NIND_droid_ISO3200.jpg")
    plant(tmp_path, "s/NIND_MuseeL-RGB_ISO1000.png", "s/NIND_MuseeL-RGB_ISOH1.png", "s/NIND_MuseeL-RGB_ISO250-2.png")
    assert taken(tmp_path) == [
        "NIND_droid_ISO3200.jpg",
        "s/NIND_MuseeL-RGB_ISO1000.png",
        "s/NIND_MuseeL-RGB_ISOH1.png",
    ]
    crops = ["ISO800/NIND_x_ISO800_3_1_192.jpg", "ISO6400/NIND_x_ISO6400_3_1_192.jpg"]
    plant(tmp_path / "crops", *crops)
    found = {
        member.file.relative.as_posix(): member for member in members(scan([tmp_path / "crops"]), "nind", asked=False)
    }
    assert [found[name].side for name in crops] == ["clean", "noisy"]
    assert len({found[name].scene for name in crops}) == 1


def test_plain_takes_everything(tmp_path: Path) -> None:
    names = ["NIND_a_ISO100.png", "clean/a.png", "noisy/a.png", "x_mean.png", "x_real.png"]
    assert taken(plant(tmp_path, *names), "plain") == names
    assert told(tmp_path, "plain") is None


@pytest.mark.parametrize(
    ("names", "below", "line"),
    [
        (["a_mean.png", "b_mean.png"], "", "found only clean ones among its 2 (polyu:"),
        ([f"{SIDD}/GT_SRGB_010.PNG"], "", "found only clean ones among its 1 (sidd:"),
        (["NIND_a_ISO100.png", "NIND_b_ISO200.png"], "", "found only clean ones among its 2 (nind:"),
        (["noisy/a.png", "clean/a.png"], "clean", "found the clean side of"),
    ],
)
def test_a_clean_side_alone_is_refused_with_the_way_out(
    tmp_path: Path, names: list[str], below: str, line: str
) -> None:
    plant(tmp_path, *names)
    with pytest.raises(UserError) as caught:
        taken(tmp_path / below)
    assert line in str(caught.value)
    assert "data.layout=plain" in str(caught.value)
    assert len(taken(tmp_path / below, "plain")) == len(list((tmp_path / below).rglob("*.[Pp][Nn][Gg]")))


def test_a_layout_that_is_not_there_is_refused(tmp_path: Path) -> None:
    plant(tmp_path, "a.png")
    with pytest.raises(UserError, match=r"expected images of data\.layout=sidd .* found none among its 1"):
        taken(tmp_path, "sidd")


def test_a_training_is_given_the_noisy_side_and_says_so(tmp_path: Path, photo: np.ndarray) -> None:
    for name in ("x_real.png", "x_mean.png", "y_real.png", "y_mean.png"):
        write_image(tmp_path / name, Image(pixels=photo[:64, :64]))
    # A clean file that cannot be read would be an error or a line, if it were looked at.
    (tmp_path / "y_mean.png").write_bytes(b"not a picture")
    lines: list[str] = []
    config = load_config(preset="quick", overrides=["data.crop=32"], data=str(tmp_path))
    source, manifest = read_source(config, lambda _, value: lines.append(value["text"]))
    assert [Path(path).name for path in source.files] == manifest["files"] == ["x_real.png", "y_real.png"]
    assert (manifest["layouts"], manifest["clean_never_opened"]) == (["polyu"], 2)
    assert lines[:1] == ["PolyU tree: 2 noisy images, 2 clean ones are never opened"]
    # With a noise recipe all images are clean ones to train on.
    (tmp_path / "y_mean.png").unlink()
    config = load_config(preset="camera", overrides=["data.crop=32"], data=str(tmp_path))
    assert len(read_source(config, lambda *_: None)[0].files) == 3
