"""The model card for people: README.md beside the weights, and the description of the registered version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.config import flatten
from pipeline.data.paths import shown

if TYPE_CHECKING:
    from models import LoadedModel

UNKNOWN_LICENCE = "unknown: nobody has said under what licence the images are"
_LONGEST = 300


def licence(card: Mapping[str, Any]) -> str:
    """Return the licence of the training data in words; that it is unknown, if it is."""
    data = card.get("data")
    said = data.get("licence") if isinstance(data, Mapping) else None
    return shown(said) if isinstance(said, str) and said.strip() else UNKNOWN_LICENCE


def with_licence(card: Mapping[str, Any], text: str | None) -> dict[str, Any]:
    """Return a card that names the licence of the training data; ``None`` changes nothing."""
    if text is None:
        return dict(card)
    data = card.get("data")
    return {**card, "data": {**(data if isinstance(data, Mapping) else {}), "licence": text}}


def readme(loaded: LoadedModel, versions: Mapping[str, str]) -> str:
    """Return the model card as Markdown.

    Args:
        loaded: the model.
        versions: of the packages it was registered with.
    """
    card = loaded.card
    sections = (
        ("", _head(loaded)),
        ("Use", _use(loaded)),
        ("Training data", _data(card)),
        ("Method", _method(card)),
        ("Measured", _measured(card)),
        ("Limits", _limits(loaded)),
        ("Identity", _identity(loaded, versions)),
    )
    parts = [(f"## {title}\n\n" if title else "") + "\n".join(lines) for title, lines in sections]
    return "\n\n".join(["# Denoiser made by unveil", *parts]) + "\n"


def _head(loaded: LoadedModel) -> list[str]:
    from models import describe
    from models.inference_spec import describe_inference

    network = describe(loaded.spec)
    field = network["receptive_field"]
    means = describe_inference(loaded.inference, stochastic=network["stochastic"])
    planes = (
        "the planes R, Gr, Gb, B of raw files" if loaded.card.get("domain") == "raw" else "pictures (sRGB as stored)"
    )
    return [
        f"- network: {network['kind']}, {network['parameters']:,} parameters, {network['channels']} channels, "
        f"receptive field {'the whole image' if field is None else f'{field}x{field} pixels'}",
        f"- cost: {network['macs_per_pixel']:,} multiply-accumulates a pixel and pass, {means['passes']} passes",
        f"- input and output: {planes}, any height and width",
        f"- licence of the training data: {escaped(licence(loaded.card))}",
        f"- gate: {_gate(loaded.card)}",
    ]


def _use(loaded: LoadedModel) -> list[str]:
    if loaded.card.get("domain") == "raw":
        return [
            "`unveil denoise RAW... --model REF --out FOLDER` reads raw files and writes DNGs. It is not served as a "
            "function of arrays: it must know the noise level of each file, which arrays do not tell.",
        ]
    return [
        "```python",
        "import mlflow",
        'model = mlflow.pyfunc.load_model("models:/NAME/VERSION")',
        "clean = model.predict(noisy)  # (H, W, C) or (B, H, W, C): uint8, uint16, or float32 in [0, 1]",
        "```",
        "",
        "Over HTTP (`mlflow models serve -m models:/NAME/VERSION --env-manager local`) also base64 of an 8-bit PNG or "
        'of a NumPy file: `{"inputs": ["iVBORw0..."]}`, answered by `{"predictions": ["iVBORw0..."]}`. '
        "`params`: `seed` of the masks, `strength` 0 to 1, `dtype` of numbers sent as JSON.",
    ]


def _data(card: Mapping[str, Any]) -> list[str]:
    data = card.get("data") if isinstance(card.get("data"), Mapping) else {}
    source = card.get("source")
    lines = [f"- licence: {escaped(licence(card))}"]
    if isinstance(source, Mapping):
        lines.append(f"- weights imported from elsewhere: {_pairs(source)}")
    elif data:
        lines.append(f"- {_pairs({name: value for name, value in data.items() if name != 'licence'})}")
        clean = card.get("clean_images_read")
        lines.append("- clean images were read" if clean else "- no clean image was read")
    else:
        lines.append("- unknown")
    if isinstance(card.get("raw"), Mapping):
        lines.append(f"- raw files: {_pairs(card['raw'])}")
    return lines


def _method(card: Mapping[str, Any]) -> list[str]:
    config = card.get("config")
    if not isinstance(config, Mapping):
        return ["- unknown"]
    rows = {
        "method and masks": config.get("method"),
        "noise recipe": config.get("noise") or "none: the images were noisy",
        "student": config.get("student"),
        "chosen from the measured noise": config.get("adapted"),
        "seed": config.get("seed"),
        "crop": (config.get("data") or {}).get("crop"),
        "optimiser": config.get("optimizer"),
        "training": card.get("training"),
        "weights of step": card.get("weights_of_step"),
        "adapted from a finished network": _adaptation(card),
    }
    return [f"- {name}: {_pairs(value)}" for name, value in rows.items() if value not in (None, {}, ())]


def _adaptation(card: Mapping[str, Any]) -> dict[str, Any] | None:
    found = card.get("adaptation")
    if not isinstance(found, Mapping):
        return None
    return {name: found.get(name) for name in ("start", "kept", "why")}


def _measured(card: Mapping[str, Any]) -> list[str]:
    lines = [f"- gate, measured without clean images: {_gate(card)}"]
    validated = card.get("validated")
    if not isinstance(validated, Mapping):
        return [*lines, "- against clean images: nothing was measured (`unveil evaluate --record`)"]
    rows = {
        "data": validated.get("data"),
        "images": validated.get("n"),
        "protocol": validated.get("protocol"),
        "noisy": validated.get("noisy"),
        "denoised": validated.get("metrics"),
        "mode": validated.get("mode"),
    }
    return [*lines, *(f"- {name}: {_pairs(value)}" for name, value in rows.items() if value is not None)]


def _limits(loaded: LoadedModel) -> list[str]:
    card, lines = loaded.card, []
    channels = loaded.network.channels
    if card.get("domain") == "raw":
        lines.append("- Bayer raw files only; other cameras and noise levels than those above are remarked upon")
    elif channels == 1:
        lines.append("- trained on grey pictures; the channels of a colour picture are denoised one by one")
    elif channels == 3:
        lines.append("- trained on colour pictures; grey ones are shown as three equal channels")
    lines += [
        "- noise unlike that of the training data may stay, and fine texture like it may go",
        "- predicts values of pixels; what noise has hidden entirely is not brought back",
    ]
    if licence(card) == UNKNOWN_LICENCE:
        lines.append("- the licence of the training data is unknown: ask before you use or pass on this model")
    return lines


def _identity(loaded: LoadedModel, versions: Mapping[str, str]) -> list[str]:
    return [
        f"- sha256 of model.safetensors: {loaded.sha256}",
        f"- trained with unveil {_text(loaded.card.get('unveil', 'of unknown version'))}",
        f"- registered with {', '.join(f'{name} {version}' for name, version in versions.items())}",
        "- every file by hash: unveil.json; a test picture and its result: test.safetensors; all checked by "
        "`unveil models verify`",
    ]


def _gate(card: Mapping[str, Any]) -> str:
    from pipeline.registry.promotion import verdict

    return escaped(verdict(card).text)


def _pairs(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{_text(name)} {_text(item)}" for name, item in _items(value))
    return _text(value)


def _items(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from flatten({str(name): item for name, item in value.items()}).items()


def _text(value: Any) -> str:
    """Text of a card, which may come from anywhere, as one harmless line of Markdown."""
    text = shown(f"{value:.6g}" if isinstance(value, float) else str(value)) or "''"
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    return escaped(text)


def escaped(text: str) -> str:
    """Return text that adds no Markdown of its own to a page."""
    return "".join(f"\\{sign}" if sign in "\\`*_[]<>|#" else sign for sign in text)
