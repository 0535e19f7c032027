import hashlib
import importlib
import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import safetensors.torch
import torch

from models import InferenceSpec, MaskedSwinSpec, UNetSpec, load, replace_card, save
from models.build import build, describe, spec_from_dict
from models.spec_io import spec_from_mapping, spec_to_dict

SPEC = UNetSpec(width=4, depth=1)
SWIN = MaskedSwinSpec(dim=12, depths=(2,), heads=(2,), window=4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "m", build(SPEC), spec=SPEC, inference=InferenceSpec(draws=3), card={"steps": 7})
    return tmp_path / "m"


def refuses(folder: Path, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


def replace_weights(folder: Path, data: bytes) -> None:
    """Another weights file with the hash that belongs to it, as an attacker would write it."""
    (folder / "model.safetensors").write_bytes(data)
    edit(folder, sha256=hashlib.sha256(data).hexdigest())


def edit(folder: Path, **values: object) -> None:
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("spec", [SPEC, SWIN])
def test_a_round_trip_is_bitwise(tmp_path: Path, spec: UNetSpec | MaskedSwinSpec) -> None:
    network = build(spec, seed=5)
    inference = InferenceSpec(mode="multi_mask", pd_stride=2, draws=4, seed=9)
    digest = save(tmp_path / "new" / "m", network, spec=spec, inference=inference, card={"a": [1, None]})
    loaded = load(tmp_path / "new" / "m")
    assert loaded.spec == spec
    assert loaded.inference == inference
    assert loaded.card == {"a": [1, None]}
    assert loaded.sha256 == digest
    assert not loaded.network.training
    state = loaded.network.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "new" / "m").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save(tmp_path / name, build(SPEC), spec=SPEC, inference=InferenceSpec(), card={})
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_pickle_named_safetensors_is_not_opened(folder: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (folder / "exploded",))

    replace_weights(folder, pickle.dumps(Bomb()))
    refuses(folder, "not a safetensors file")
    torch.save({"weight": torch.zeros(1)}, folder / "model.safetensors")
    refuses(folder, "not a safetensors file")
    assert not (folder / "exploded").exists()


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_file_is_refused(folder: Path, size: int) -> None:
    replace_weights(folder, (folder / "model.safetensors").read_bytes()[:size])
    refuses(folder, "not a safetensors file|header is damaged|truncated")


def test_a_file_with_something_appended_is_refused(folder: Path) -> None:
    replace_weights(folder, (folder / "model.safetensors").read_bytes() + b"\0\0\0\0")
    refuses(folder, "where its header announces")
    with (folder / "model.safetensors").open("ab") as file:
        file.truncate(1 << 24)
    refuses(folder, "more than the weights of this network need")


def test_a_pipe_in_place_of_the_weights_is_refused_at_once(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    os.mkfifo(folder / "model.safetensors")
    refuses(folder, "model.safetensors: not a file")


def test_tables_that_the_weights_do_not_show_are_bounded(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    document["network"] = {"kind": "masked_swin", "dim": 4, "depths": [48] * 16, "heads": [1] * 16, "window": 64}
    (folder / "model.json").write_text(json.dumps(document))
    refuses(folder, "model.json: tables of [0-9]+ bytes, more than 1073741824")


def test_a_format_of_true_is_not_format_1(folder: Path) -> None:
    document = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(document | {"format": True}))
    refuses(folder, "format True is unknown")


def test_a_wrong_shape_type_or_name_is_refused(folder: Path) -> None:
    state = dict(build(SPEC).state_dict())
    wrong = state | {"head.bias": torch.zeros(4)}
    replace_weights(folder, safetensors.torch.save(wrong))
    refuses(folder, r"head.bias must be torch.float32 \(3,\), got torch.float32 \(4,\)")
    wrong = state | {"head.bias": torch.zeros(3, dtype=torch.float16)}
    replace_weights(folder, safetensors.torch.save(wrong))
    refuses(folder, r"head.bias must be torch.float32 \(3,\), got F16 \(3,\)")
    wrong = {key: value for key, value in state.items() if key != "head.bias"} | {"extra": torch.zeros(3)}
    replace_weights(folder, safetensors.torch.save(wrong))
    refuses(folder, r"1 missing \(first: \['head.bias'\]\), 1 unknown \(first: \['extra'\]\)")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_in_both_directions(folder: Path, value: float) -> None:
    network = build(SPEC)
    with torch.no_grad():
        network.head.bias[0] = value
    replace_weights(folder, safetensors.torch.save(network.state_dict()))
    refuses(folder, "head.bias holds values that are not finite")
    with pytest.raises(ValueError, match=r"head\.bias holds values that are not finite"):
        save(folder, network, spec=SPEC, inference=InferenceSpec(), card={})


def test_a_changed_bit_is_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    refuses(folder, "sha256 differs")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format 2 is unknown; this version reads format 1"),
        ({"format": True, "more": 1}, "must have the keys|format True"),
        ({"more": 1}, "must have the keys"),
        ({"network": []}, "network must be an object, got list"),
        ({"network": {"kind": "dncnn"}}, "kind must be one of masked_swin, unet, nafnet, restormer, got 'dncnn'"),
        ({"network": {"kind": ["unet"]}}, "kind must be one of masked_swin, unet"),
        (
            {"network": {"kind": "unet", "widht": 4}},
            "widht: unknown field of UNetSpec; it has kind, channels",
        ),
        ({"network": {"kind": "unet", "width": "4"}}, "width must be int, got '4'"),
        ({"network": {"kind": "unet", "width": True}}, "width must be int, got True"),
        ({"network": {"kind": "unet", "width": 10**9}}, "width must be 1 to 1024"),
        ({"network": {"kind": "masked_swin", "depths": 6}}, "depths must be a list"),
        ({"inference": {"draws": 0}}, "draws must be 1 to 1024, got 0"),
        ({"inference": {"mode": "blind"}}, "mode must be one of"),
        ({"sha256": None}, "sha256 differs"),
    ],
)
def test_a_description_that_is_not_understood_is_refused(folder: Path, change: dict[str, object], reason: str) -> None:
    edit(folder, **change)
    refuses(folder, reason)


def test_files_that_are_missing_or_no_json_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refuses(folder, "model.safetensors: cannot be read: No such file")
    for text in ("{", "[]", "{}", "[" * 100_000):
        (folder / "model.json").write_text(text)
        refuses(folder, "not a JSON file|not the description of a model")
    (folder / "model.json").write_bytes(b" " * (1 << 20) + b"{}")
    refuses(folder, "larger than")
    (folder / "model.json").unlink()
    refuses(folder, "model.json: cannot be read: No such file")


def test_a_card_that_is_no_json_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    for card in ({"path": tmp_path}, {"psnr": float("nan")}):
        with pytest.raises(ValueError, match="card must hold JSON values only"):
            save(tmp_path / "m", build(SPEC), spec=SPEC, inference=InferenceSpec(), card=card)
    assert not (tmp_path / "m").exists()


def test_a_network_of_another_spec_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not the weights of this masked_swin"):
        save(tmp_path, build(SPEC), spec=SWIN, inference=InferenceSpec(), card={})


@pytest.mark.parametrize("spec", [SPEC, SWIN, MaskedSwinSpec(), UNetSpec(residual=False)])
def test_specs_survive_json(spec: UNetSpec | MaskedSwinSpec) -> None:
    assert spec_from_dict(json.loads(json.dumps(spec_to_dict(spec)))) == spec
    inference = InferenceSpec(seed=2**63 - 1)
    assert spec_from_mapping(InferenceSpec, json.loads(json.dumps(spec_to_dict(inference)))) == inference


def test_initial_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = build(SPEC, seed=3).state_dict()
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    two = build(SPEC, seed=3).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not torch.equal(state, before)
    assert all(torch.equal(one[key], two[key]) for key in one)
    other = build(SPEC, seed=4).state_dict()
    assert not torch.equal(one["encoders.0.0.weight"], other["encoders.0.0.weight"])


def test_describe_counts_without_building() -> None:
    facts = describe(MaskedSwinSpec())
    assert facts == facts | {
        "kind": "masked_swin",
        "channels": 3,
        "parameters": 824_118,
        "multiple": 8,
        "reach": None,
        "stochastic": True,
    }
    assert describe(UNetSpec())["parameters"] == 253_851
    assert describe(UNetSpec())["reach"] == 52


def test_the_package_works_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import models

    shutil.copytree(Path(models.__file__).parent, tmp_path / "models_of_a_registry")
    monkeypatch.syspath_prepend(tmp_path)
    copied = importlib.import_module("models_of_a_registry")
    copied.save(
        tmp_path / "m",
        copied.build(copied.UNetSpec(width=4)),
        spec=copied.UNetSpec(width=4),
        inference=copied.InferenceSpec(),
        card={},
    )
    loaded = copied.load(tmp_path / "m")
    image = torch.rand(1, 3, 9, 9)
    assert torch.equal(copied.denoise(loaded.network, image, loaded.inference), image)
    assert type(loaded.network).__module__ == "models_of_a_registry.unet"


def test_a_card_can_be_replaced_without_touching_the_rest(folder: Path) -> None:
    before = load(folder)
    replace_card(folder, {"validated": {"n": 3}})
    after = load(folder)
    assert after.card == {"validated": {"n": 3}}
    assert (after.spec, after.inference, after.sha256) == (before.spec, before.inference, before.sha256)
    document = (folder / "model.json").read_bytes()
    with pytest.raises(ValueError, match="card must hold JSON values only"):
        replace_card(folder, {"validated": {1, 2}})
    assert (folder / "model.json").read_bytes() == document
    with pytest.raises(ValueError, match="cannot be read"):
        replace_card(folder / "nowhere", {})
