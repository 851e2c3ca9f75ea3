"""What encoding descriptions costs: all at once, as an encoder does it here, and class by class, as published.

    python benchmarks/encode_texts.py

The text tower of ViT-B/32 with random weights: speed does not depend on them. A part of the descriptions is encoded,
and the time of all 100,000 is that of the part, scaled. The sides take turns, and medians are compared.
"""

from __future__ import annotations

import json
import logging
import statistics
import tempfile
from pathlib import Path

import numpy as np
import torch
from _shared import medians

from descbench.devices import pick_device
from descbench.encoders import OpenCLIPEncoder

ALL = 100_000  # descriptions, as of 17,000 classes
EACH = 6  # descriptions a class, as DCLIP has them
SHARED = 0.15  # the share that another class has too, word by word ("four legs"): encoded once
ROUNDS = 3
DEVICE = pick_device("auto")
CLASSES = 2_000 if DEVICE == "cuda" else 40  # of which the descriptions are encoded
WORDS = (
    "a the of with and or long short small large black white brown red grey yellow pointed round curved thin wide head "
    "body tail legs wings beak eyes ears fur feathers surface handle edge back sides pattern stripes spots made wood "
    "metal plastic glass used often usually bright dark smooth rough flat"
)


def model(folder: Path) -> OpenCLIPEncoder:
    """ViT-B/32 with random weights, in the format that people have."""
    import open_clip
    from safetensors.torch import save_file

    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3}
    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    logging.disable(logging.WARNING)  # open_clip says that they are random
    random = open_clip.create_model("ViT-B-32", load_weights=False)
    save_file(random.state_dict(), folder / "open_clip_model.safetensors")
    return OpenCLIPEncoder(f"local-dir:{folder}", device=DEVICE, batch_size=256 if DEVICE == "cuda" else 64)


def descriptions() -> list[list[str]]:
    """For each class its texts, "NAME, which has ..." of 3 to 20 words, most of them short, as DCLIP phrases them."""
    draw, words = np.random.default_rng(0), WORDS.split()

    def phrase() -> str:
        return " ".join(draw.choice(words, size=int(np.clip(draw.lognormal(1.6, 0.5), 2, 16))))

    shared = [f"which has {phrase()}" for _ in range(20)]
    classes = []
    for number in range(CLASSES):
        name = f"{draw.choice(words)} thing {number}"
        texts = [f"{name}, which has {phrase()}" for _ in range(EACH)]
        classes.append([str(draw.choice(shared)) if draw.random() < SHARED else text for text in texts])
    return classes


def library(encoder: OpenCLIPEncoder) -> torch.nn.Module:
    """The same weights by the library's own way."""
    import open_clip

    network: torch.nn.Module = open_clip.create_model_from_pretrained(encoder.argument, device=DEVICE)[0]
    return network.eval()


def class_by_class(network: torch.nn.Module, classes: list[list[str]]) -> torch.Tensor:
    """One call of the library a class, with what its tokenizer gives: 77 tokens a text."""
    import open_clip

    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    with torch.no_grad():
        rows = [network.encode_text(tokenizer(texts).to(DEVICE), normalize=True) for texts in classes]
    return torch.cat(rows).cpu()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        encoder = model(Path(folder))
        classes = descriptions()
        texts = [text for own in classes for text in own]
        lengths = encoder.count_tokens(texts)
        network = library(encoder)
        off = float((encoder.encode_texts(texts) - class_by_class(network, classes)).abs().max())
        assert off < 1e-5, f"the two sides differ by {off}"
        ours, theirs = medians(
            lambda: encoder.encode_texts(texts), lambda: class_by_class(network, classes), rounds=ROUNDS, device=DEVICE
        )
    part = f"{len(texts)} texts ({len(set(texts))} distinct, {min(lengths)} to {max(lengths)} tokens, "
    print(f"{DEVICE}, {torch.get_num_threads()} threads: {part}mean {statistics.mean(lengths):.0f}), scaled to {ALL:,}")
    for side, seconds in (("class by class", theirs), ("all at once", ours)):
        print(f"  {side:<20}{len(texts) / seconds:9.0f} texts/s{seconds * ALL / len(texts):10.0f} s", end="")
        print(f"{theirs / seconds:8.2f} x as fast" + ("  (aim: 2)" if side != "class by class" else ""))
    print(f"  the same features to {off:.0e}")


if __name__ == "__main__":
    main()
