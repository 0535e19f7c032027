import json

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from pipeline.commands.inspect import inspect
from pipeline.data.folders import scan
from pipeline.data.images import Image, write_image
from pipeline.evaluation.survey import survey


def write(path, sigma=8.0, shape=(160, 200, 3), dtype=np.uint8, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    white = np.iinfo(dtype).max
    values = 0.5 + generator.normal(0, sigma / 255, shape)
    write_image(path, Image(pixels=np.rint(np.clip(values, 0, 1) * white).astype(dtype)))


def invoke(*args):
    app = Typer()
    app.command()(inspect)
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_files_are_described_and_white_noise_is_measured(tmp_path):
    write(tmp_path / "a.png", sigma=8.0)
    write(tmp_path / "b.tif", sigma=12.0, dtype=np.uint16, shape=(150, 160, 1))
    first, second = survey(scan([tmp_path]))["files"]
    assert (first["width"], first["height"], first["channels"], first["bits"], first["format"]) == (
        200,
        160,
        3,
        8,
        "png",
    )
    assert (second["channels"], second["bits"], second["format"]) == (1, 16, "tiff")
    assert first["noise"]["sigma"] == pytest.approx([8.0] * 3, rel=0.1)
    assert second["noise"]["sigma"] == pytest.approx([12.0], rel=0.1)


def test_the_pooled_suggestion_for_white_noise_needs_no_stride(tmp_path):
    for index in range(3):
        write(tmp_path / f"{index}.png", sigma=10, seed=index)
    pooled = survey(scan([tmp_path]))["pooled"]
    assert pooled["sigma"] == pytest.approx(10, rel=0.1)
    assert abs(pooled["correlation"]) < 0.1
    assert (pooled["measured"], pooled["pd_stride"], pooled["mask_ratio"]) == (3, 1, 0.2)


def test_only_some_files_are_measured_and_small_ones_are_not(tmp_path):
    for index in range(6):
        write(tmp_path / f"{index}.png")
    result = survey(scan([tmp_path]), limit=2)
    assert [row["noise"] is not None for row in result["files"]] == [True, False, False, True, False, False]
    assert all(row["width"] == 200 for row in result["files"])
    write(tmp_path / "small" / "s.png", shape=(20, 20, 3))
    assert survey(scan([tmp_path / "small"]))["pooled"] is None


def test_the_command_prints_json_and_tells_some_from_all_failed(tmp_path):
    write(tmp_path / "a.png")
    assert invoke(tmp_path, "--json").exit_code == 0
    (tmp_path / "text.png").write_text("no picture")
    result = invoke(tmp_path, "--json")
    assert result.exit_code == 3
    answer = json.loads(result.stdout)
    assert (answer["n"], answer["failed"]) == (2, 1)
    assert "text" in answer["files"][1]["error"]
    assert invoke(tmp_path / "text.png", "--json").exit_code == 1


def test_the_table_goes_to_stderr_and_survives_markup_in_names(tmp_path):
    write(tmp_path / "[bold]a[/].png")
    result = invoke(tmp_path)
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "suggested" in result.stderr
