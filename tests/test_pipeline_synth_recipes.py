"""What is typed after ``unveil synth --recipe``: names, levels, cameras, files; and one line for each mistake."""

import json

import pytest

from noise import CameraNoise, EldNoise, Gaussian, Mixture, Poisson, SaltPepper, Sequence, Spatial, Speckle
from noise.levels import LevelLine, LevelTable, SensorLevels
from noise.tone_mapping import ToneMapping
from pipeline.data.synth_recipes import OFFERS, make_recipe, parse_level, recipe_table
from pipeline.errors import UserError


@pytest.mark.parametrize(
    ("name", "level", "recipe"),
    [
        ("gaussian", "25", Gaussian(sigma=(25.0, 25.0))),
        ("gaussian", "5,50", Gaussian(sigma=(5.0, 50.0))),
        ("speckle", "0.018", Speckle(variance=(0.018, 0.018))),
        ("poisson", "2,3.5", Poisson(alpha=(2.0, 3.5))),
        ("spatial", "40", Spatial(sigma=(40.0, 40.0))),
        ("salt_pepper", "2e-3", SaltPepper(density=(0.002, 0.002))),
        ("mixture", "2,4", Mixture(level=(2, 4))),
        ("camera", "1e-3,0.01", CameraNoise(levels=LevelLine(shot=(1e-3, 0.01)))),
        ("isp", None, CameraNoise()),
        ("eld", "100,200", EldNoise(ratio=(100.0, 200.0))),
        ("monte_carlo", "4", ToneMapping()),
    ],
)
def test_a_level_sets_what_is_natural_for_each_recipe(name, level, recipe):
    assert make_recipe(name, level) == recipe


def test_a_camera_brings_its_levels(tmp_path):
    assert make_recipe("camera", camera="pixel") == CameraNoise(levels=SensorLevels(name="pixel"))
    assert make_recipe("isp", camera="A7S2") == CameraNoise(levels=SensorLevels(name="A7S2"))
    assert make_recipe("eld", "50", camera="D850") == EldNoise(camera="D850", ratio=(50.0, 50.0))


def test_levels_come_from_a_file(tmp_path):
    file = tmp_path / "levels.json"
    file.write_text(json.dumps({"kind": "table", "points": [[1e-3, 1e-6], [1e-2, 1e-4]]}))
    assert make_recipe("camera", levels=file) == CameraNoise(levels=LevelTable(points=((1e-3, 1e-6), (1e-2, 1e-4))))
    file.write_text(json.dumps({"kind": "line", "shot": [1e-3, 1e-2], "slope": 2.0, "intercept": 1, "std": 0.1}))
    want = LevelLine(shot=(1e-3, 1e-2), slope=2.0, intercept=1.0, std=0.1)
    assert make_recipe("isp", levels=file) == CameraNoise(levels=want)


def test_everything_else_is_set_by_its_key():
    made = make_recipe("camera", settings=["levels.kind=sensor", "levels.name=lg_g4", "rendering.demosaic=malvar"])
    assert made.levels == SensorLevels(name="lg_g4")
    assert made.rendering.demosaic == "malvar"
    steps = ['steps=[{kind="poisson", eight_bit=false}, {kind="gaussian", sigma=[5, 5]}]']
    want = Sequence(steps=(Poisson(eight_bit=False), Gaussian(sigma=(5.0, 5.0))))
    assert make_recipe("sequence", settings=steps) == want
    assert make_recipe("monte_carlo", settings=["operator=aces"]) == ToneMapping(operator="aces")


def test_a_recipe_comes_from_a_file_or_a_manifest(tmp_path):
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps({"kind": "poisson", "alpha": [3, 3]}))
    assert make_recipe(str(file)) == Poisson(alpha=(3.0, 3.0))
    file.write_text(json.dumps({"seed": 1, "recipe": {"kind": "mixture"}, "files": []}))
    assert make_recipe(str(file)) == Mixture()
    assert make_recipe(str(file), settings=["level=[1, 1]"]) == Mixture(level=(1, 1))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("grain", {}, "--recipe: expected one of gaussian, speckle, .*, choice, or a .json file; found 'grain'"),
        ("gaussian", {"level": "much"}, "--level: expected a number or lowest,highest; found 'much'"),
        ("gaussian", {"level": "1,2,3"}, "--level: expected a number or lowest,highest; found '1,2,3'"),
        ("gaussian", {"level": "nan"}, "--level: sigma.0 must be a number, got nan"),
        ("gaussian", {"level": "inf"}, "--level: sigma must be a range"),
        ("gaussian", {"level": "-3"}, "--level: sigma must be a range"),
        ("camera", {"level": "5"}, "--level: levels.shot must be a range"),
        ("mixture", {"level": "2.5"}, "--level: level.0 must be a whole number, got 2.5"),
        ("sequence", {"level": "2"}, "--level: sequence has no level"),
        ("sequence", {}, "--recipe: steps must hold at least one recipe"),
        ("choice", {}, "--recipe: recipes must hold at least one recipe"),
        ("poisson", {"camera": "pixel"}, "--camera: expected with --recipe camera, isp or eld, found poisson"),
        ("camera", {"camera": "pixl"}, "--camera: levels.name must be one of 'pixel'.* got 'pixl'"),
        ("eld", {"camera": "pixel"}, "--camera: camera must be one of .*5D4.* got 'pixel'"),
        ("camera", {"camera": "pixel", "level": "0.01"}, "--camera: brings its own noise levels"),
        ("camera", {"settings": ["levels.shoot=3"]}, "--set: levels.shoot: unknown key of line"),
        ("camera", {"settings": ["levels"]}, "'levels': expected dotted.key=value"),
        ("none.json", {}, "--recipe none.json: expected a readable file, found: No such file"),
    ],
)
def test_a_mistake_is_one_line_that_begins_with_the_option(name, options, message):
    with pytest.raises(UserError, match=f"^{message}") as caught:
        make_recipe(name, options.pop("level", None), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected a JSON object, found list"),
        ("{", "expected JSON, found"),
        ('{"kind": "curve"}', "levels.kind: no 'curve'; there is line, table, sensor"),
        ('{"kind": "line", "shot": [0, 1]}', "levels.shot must be a range"),
    ],
)
def test_a_wrong_file_of_levels_is_named(tmp_path, text, message):
    file = tmp_path / "levels.json"
    file.write_text(text)
    with pytest.raises(UserError, match=f"^--levels .*levels.json: {message}"):
        make_recipe("camera", levels=file)
    with pytest.raises(UserError, match=r"^--levels: expected with --recipe camera or isp"):
        make_recipe("gaussian", levels=file)


def test_levels_keep_whole_numbers_whole():
    assert parse_level("3") == (3, 3)
    assert isinstance(parse_level("3")[0], int)
    assert parse_level(" 2 , 3.5") == (2, 3.5)


def test_the_table_has_a_row_for_every_name_with_its_default():
    rows = {row["recipe"]: row for row in recipe_table()}
    assert set(rows) == set(OFFERS)
    assert rows["gaussian"]["default"] == "15"
    assert rows["camera"]["default"] == "0.0001 to 0.012"
    assert all(row["level"] for row in rows.values())
