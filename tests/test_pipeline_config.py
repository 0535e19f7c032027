"""Configuration: one source of defaults, strict keys, and errors that name the key and what to do."""

from __future__ import annotations

import pytest

from pipeline.config import check, dump, flatten, load_config, parse_override, preset_names
from pipeline.errors import UserError


def message(*overrides: str, preset: str = "quick") -> str:
    with pytest.raises(UserError) as error:
        load_config(preset=preset, overrides=overrides)
    text = str(error.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid_and_survives_a_dump(preset: str) -> None:
    config = load_config(preset=preset)
    assert check(dump(config)) == config


def test_every_key_has_a_description() -> None:
    import dataclasses

    from pydantic import TypeAdapter

    from pipeline.schema import TrainConfig

    schema = TypeAdapter(TrainConfig).json_schema()
    sections = [schema, *schema["$defs"].values()]
    bare = [
        f"{section.get('title')}.{name}"
        for section in sections
        for name, field in section.get("properties", {}).items()
        if "description" not in field and "$ref" not in field
    ]
    assert bare == [], "fields without a string under them"
    assert dataclasses.is_dataclass(type(load_config(preset="quick").network))


def test_unknown_key_names_the_nearest_one() -> None:
    assert message("training.stepz=3") == "training.stepz: unknown key; did you mean 'steps'?"
    assert message("network.widht=3") == "network.widht: unknown key; did you mean 'width'?"
    assert message("trainning.steps=3").startswith("trainning: unknown key; did you mean 'training'?")


def test_unknown_key_without_a_near_one_lists_what_exists() -> None:
    text = message("cluster.zzz=1")
    assert text.startswith("cluster.zzz: unknown key; expected one of gpus_per_worker, max_failures")


def test_value_out_of_range_says_key_limit_and_value() -> None:
    assert message("training.steps=0") == "training.steps: expected greater than or equal to 1, found 0"
    assert message("optimizer.lr=-1") == "optimizer.lr: expected greater than 0, found -1"


def test_a_spec_s_own_check_reaches_the_user_with_the_key() -> None:
    text = message("network.width=0")
    assert "width" in text
    assert "0" in text


def test_wrong_type_says_what_was_expected() -> None:
    assert message("training.batch='many'").startswith("training.batch: expected a valid integer")
    assert message("optimizer.schedule=linear") == (
        "optimizer.schedule: expected 'cosine', 'constant' or 'halve', found 'linear'"
    )


def test_unknown_kind_lists_the_kinds() -> None:
    text = message("network.kind=resnet")
    assert text.startswith("network")
    assert "masked_swin" in text
    assert "unet" in text


def test_another_kind_drops_what_the_preset_said_about_the_old_one() -> None:
    config = load_config(
        preset="quick", overrides=["network.kind=masked_swin", "network.dim=12", "network.heads=[2,2,2,2]"]
    )
    assert config.network.kind == "masked_swin"


def test_masked_training_on_noisy_photos_is_refused_with_the_reason() -> None:
    text = message("method.kind=masked", "inference.mode=direct")
    assert text.startswith("method.kind: 'masked' compares with clean images")


def test_overrides_are_toml_and_bare_words_are_text() -> None:
    assert parse_override("a.b=[0.5, 0.9]") == ("a.b", [0.5, 0.9])
    assert parse_override("a=1e-4") == ("a", 1e-4)
    assert parse_override("a=true") == ("a", True)
    assert parse_override("a=word") == ("a", "word")
    assert parse_override("network.group_conv=1conv") == ("network.group_conv", "1conv")
    assert parse_override('a="two words"') == ("a", "two words")


@pytest.mark.parametrize("text", ["steps", "=3", "a..b=3", "a=[1,", "a=1\nb=2", "a=import os; x"])
def test_malformed_overrides_are_refused(text: str) -> None:
    with pytest.raises(UserError):
        parse_override(text)


def test_unknown_preset_names_the_nearest_and_all() -> None:
    with pytest.raises(UserError, match=r"did you mean 'quick'\? there are .*masked_swin"):
        load_config(preset="quik")


def test_preset_and_config_exclude_each_other(tmp_path) -> None:
    with pytest.raises(UserError, match="exactly one"):
        load_config()
    (tmp_path / "bad.toml").write_text("a = [")
    with pytest.raises(UserError, match="not valid TOML"):
        load_config(file=tmp_path / "bad.toml")
    with pytest.raises(UserError, match="No such file"):
        load_config(file=tmp_path / "missing.toml")


def test_flatten_joins_keys_with_dots() -> None:
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
