"""The aviary's small CLIP, trained from a seed on birds that are in no guide: `python -m descbench.demo.train_clip`.

It learns from two kinds of birds: random ones, captioned by random traits, and birds of a genus (the genus's four
traits, the rest random), captioned by the genus, an epithet made up on the spot, and traits. It never sees one of the
40 species, so a genus tells it four traits, an epithet nothing, and a trait phrase what it says. What is written is a
folder in open_clip's own format; the figures beside it are measured on that folder, loaded again as a user loads it.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from descbench.demo.guide import TRAITS, Bird, Species, species, wordings
from descbench.demo.renderer import render
from descbench.methods.dclip import phrase
from descbench.methods.names import shipped_templates

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

FOLDER = Path(__file__).parent / "clip"
PIXELS = 64  # what the image tower sees
RENDERED = 128  # what the renderer draws by default
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
PROBE_SEED = 1_000_000_000  # no training picture has a seed as large
PAD, START, END = "<|pad|>", "<|start|>", "<|end|>"


@dataclass(frozen=True)
class Plan:
    """What a run depends on; the same plan on the same machine gives the same model."""

    seed: int = 1  # an epithet points somewhere by chance: with seed 0 the bare names scored 31 %, with 1 20 %
    pictures: int = 24_000  # rendered once; captions are fresh every time a picture is drawn
    steps: int = 1200
    batch: int = 256
    rate: float = 1.5e-3  # the peak of one cycle
    width: int = 20  # of the image tower's stem
    threads: int = 1  # two that wait for each other are slower than one as soon as anything else runs
    processes: int = 2  # that draw


def model_config(plan: Plan, vocabulary: int) -> dict[str, Any]:
    """`open_clip_config.json`: architecture, tokenizer (the folder's own) and preprocessing."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {
                "image_size": PIXELS,
                "layers": [1, 1, 1, 1],
                "width": plan.width,
                "head_width": 64,
                "patch_size": None,
            },
            "text_cfg": {
                "context_length": 77,
                "vocab_size": vocabulary,
                "hf_tokenizer_name": "descbench/demo-clip",  # any name: with local-dir: open_clip reads the folder
                "width": 96,
                "heads": 4,
                "layers": 2,
            },
        },
        "preprocess_cfg": {
            "size": [PIXELS, PIXELS],
            "mode": "RGB",
            "mean": list(MEAN),
            "std": list(STD),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
            "fill_color": 0,
        },
    }


# The birds.


@dataclass(frozen=True)
class Example:
    """A bird to learn from; `genus` is empty for a random one."""

    bird: Bird
    genus: str


@cache
def genera() -> dict[str, dict[str, str]]:
    """The four traits that each genus fixes."""
    return {page.genus: {trait: page.bird[trait] for trait in page.common} for page in species()}


def examples(count: int, random: Random) -> list[Example]:
    """Two random birds to one of a genus, none of them one of the 40 species."""
    guide = {page.bird for page in species()}
    names = sorted(genera())
    found: list[Example] = []
    while len(found) < count:
        genus = "" if len(found) % 3 else random.choice(names)
        fixed = genera()[genus] if genus else {}
        bird = Bird(tuple(fixed.get(trait) or random.choice(values) for trait, values in TRAITS.items()))
        if bird not in guide:
            found.append(Example(bird, genus))
    return found


def picture(bird: Bird, seed: int) -> NDArray[np.uint8]:
    """What open_clip's preprocessing makes of a rendered bird, before it normalises: (64, 64, 3)."""
    drawn = render(bird, seed, RENDERED).resize((PIXELS, PIXELS), Image.Resampling.BICUBIC)
    return np.asarray(drawn)


def _pictures(task: tuple[list[Bird], int]) -> NDArray[np.uint8]:
    birds, first_seed = task
    return np.stack([picture(bird, first_seed + i) for i, bird in enumerate(birds)])


def draw_pictures(birds: Sequence[Bird], first_seed: int, processes: int) -> NDArray[np.uint8]:
    """All pictures, each with a seed of its own: (N, 64, 64, 3)."""
    block = 500
    tasks = [(list(birds[i : i + block]), first_seed + i) for i in range(0, len(birds), block)]
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        blocks = []
        for part in pool.imap(_pictures, tasks):
            blocks.append(part)
            if len(blocks) % 20 == 0:
                log(f"drawn {len(blocks) * block} of {len(birds)}")
    return np.concatenate(blocks)


# The captions.

# Frames for a name: those that the method `templates` uses, and more.
TEMPLATES = (
    *(template.rstrip(".") for template in shipped_templates()),
    "a {}", "the {}", "one {}", "a photo of a {}", "a photo of a {}", "a photo of an {}", "a photo of the {}",
    "a picture of a {}", "an image with a {}", "a {} outdoors", "a {}, a kind of bird", "a bird called {}",
    "a bird of the kind {}", "a sketch of the {}",
)  # fmt: skip
_ONSETS, _VOWELS, _CODAS = "bcdfghjklmnpqrstvwxz", "aeiou", "bdglmnrstvx"


def epithet(random: Random) -> str:
    """Two or three syllables that are no species' epithet."""
    taken = {page.epithet for page in species()}
    while True:
        made = "".join(random.choice(_ONSETS) + random.choice(_VOWELS) for _ in range(random.choice((1, 2, 2, 2, 3))))
        made += random.choice(_CODAS) if random.random() < 0.6 else ""
        if made not in taken:
            return made


def listed(phrases: Sequence[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def caption(example: Example, random: Random) -> str:
    """One of the shapes in which methods speak to the model, with a random choice of the bird's traits."""
    name = f"{example.genus} {epithet(random)}" if example.genus else random.choice(("bird", "bird", "birds"))
    if example.genus and random.random() < 0.25:
        text = name if random.random() < 0.3 else random.choice(TEMPLATES).format(name)
    else:
        count = random.choices(range(1, 10), weights=(24, 18, 14, 12, 10, 8, 6, 4, 4))[0]
        traits = random.sample(sorted(TRAITS), count)
        features = listed([random.choice(wordings(trait, example.bird[trait])) for trait in traits])
        article = random.choice(("a", "a", "a", "an", "the", "one"))
        shape = random.random()
        if not example.genus and shape < 0.3:
            text = features
        elif shape < 0.65:
            # Both forms of the phrases of dclip: "which is a red belly", "which has red legs".
            text = f"{name}, {phrase(features)}" if random.random() < 0.7 else f"{name}, which has {features}"
        elif shape < 0.7:
            text = f"{article} {name} has {features}"
        elif shape < 0.75:
            text = f"{random.choice(TEMPLATES).format(name)}, which has {features}"
        elif shape < 0.8:
            text = f"{random.choice(TEMPLATES).format(name)} with {features}"
        else:
            text = f"a photo of {article} {name} with {features}"
    if random.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + ("." if random.random() < 0.4 else "")


def train_tokenizer(texts: Iterable[str], folder: Path) -> None:
    """A lower-casing byte-level BPE: any Unicode text has tokens, and the usual words have one each."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)  # a word is one token wherever it stands
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=999,
        special_tokens=[PAD, START],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    bpe.add_special_tokens([END])  # last: the text tower reads its feature where the largest id stands
    bpe.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, bpe.token_to_id(START)), (END, bpe.token_to_id(END))],
    )
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, bos_token=START, eos_token=END, model_max_length=77
    )
    wrapped.save_pretrained(folder)


# The training.


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """`model.encode_text` without most of the padding: the same features in a third of the time."""
    import torch
    from torch.nn import functional

    lengths = (tokens != 0).sum(dim=1)
    by_length = lengths.argsort()
    parts = []
    for rows in by_length.chunk(4):
        length = int(lengths[rows].max())
        block = tokens[rows, :length]
        x = model.token_embedding(block) + model.positional_embedding[:length]
        x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
        parts.append(x[torch.arange(len(x)), block.argmax(dim=-1)] @ model.text_projection)
    return functional.normalize(torch.cat(parts)[by_length.argsort()], dim=-1)


def prepare(pictures: NDArray[np.uint8]) -> Tensor:
    """(N, 64, 64, 3) bytes to what the image tower takes: (N, 3, 64, 64), normalised."""
    import torch

    images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def train(plan: Plan, folder: Path, probe_every: int = 0) -> dict[str, Any]:
    """Train and save the model in `folder`; returns what is worth knowing about the run."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from torch.nn import functional

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(plan.seed)
    torch.set_num_threads(plan.threads)
    began = time.monotonic()
    pool = examples(plan.pictures, Random(f"{plan.seed} birds"))
    pictures = draw_pictures([e.bird for e in pool], plan.seed * plan.pictures, plan.processes)
    drawn = time.monotonic()
    log(f"{len(pictures)} pictures in {drawn - began:.0f} s")

    words = Random(f"{plan.seed} captions")
    train_tokenizer((caption(e, words) for e in islice(pool, 20_000)), folder)
    from transformers import AutoTokenizer

    vocabulary = len(AutoTokenizer.from_pretrained(folder))
    config = model_config(plan, vocabulary)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model: Any = open_clip.CLIP(**config["model_cfg"])
    model.train().to(memory_format=torch.channels_last)  # a quarter faster on a CPU
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=plan.rate
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, plan.rate, total_steps=plan.steps, pct_start=0.1)
    order = np.random.default_rng(plan.seed)
    queue: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    target = torch.arange(plan.batch)
    mean_loss = math.log(plan.batch)
    for step in range(1, plan.steps + 1):
        if len(queue) < plan.batch:
            queue = order.permutation(len(pool))
        batch, queue = queue[: plan.batch], queue[plan.batch :]
        tokens = tokenizer([caption(pool[i], words) for i in batch])
        images = model.encode_image(prepare(pictures[batch]), normalize=True)
        texts = encode_text(model, tokens)
        logits = model.logit_scale.exp() * images @ texts.T  # (batch, batch)
        loss = (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)) / 2
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        cycle.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        mean_loss += 0.05 * (loss.item() - mean_loss)
        if step % 25 == 0:
            pace = (time.monotonic() - drawn) / step
            scale = model.logit_scale.exp().item()
            log(f"step {step} of {plan.steps}: loss {mean_loss:.3f}, scale {scale:.1f}, {pace:.2f} s a step")
        if probe_every and step % probe_every == 0 and step < plan.steps:
            model.eval()
            log(json.dumps(probe(model, tokenizer, open_clip_preprocess(config))))
            model.train()
    # Matrices in half precision; the small vectors (batch norm's statistics among them) stay exact.
    weights = {
        key: value.half() if value.ndim >= 2 else value for key, value in model.state_dict().items() if value.numel()
    }
    file = folder / "open_clip_model.safetensors"
    save_file({key: value.contiguous() for key, value in weights.items()}, file)
    file.chmod(0o644)  # safetensors writes for the owner alone
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "final_loss": round(mean_loss, 4),
        "seconds": {"drawing": round(drawn - began), "training": round(time.monotonic() - drawn)},
    }


def open_clip_preprocess(config: dict[str, Any]) -> Any:
    from open_clip.transform import PreprocessCfg, image_transform_v2

    return image_transform_v2(PreprocessCfg(**config["preprocess_cfg"]), is_train=False)


# The probe: what the methods will find, computed from their definitions.


class Encoded:
    """Features of texts, each text encoded once."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.known: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:  # (T, D)
        import torch

        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        for i in range(0, len(new), 256):
            block = new[i : i + 256]
            with torch.inference_mode():
                features = self.model.encode_text(self.tokenizer(block), normalize=True)
            self.known.update(zip(block, features, strict=True))
        return torch.stack([self.known[text] for text in texts])


def probe(model: Any, tokenizer: Any, preprocess: Any, each: int = 15) -> dict[str, Any]:
    """Accuracies in per cent on `each` pictures of every species, and per trait on random birds."""
    import torch
    from torch.nn import functional

    pages = species()
    random = Random("probe")
    encode = Encoded(model, tokenizer)

    def encode_images(birds: Sequence[Bird], first_seed: int) -> Tensor:  # (N, D)
        images = [preprocess(render(bird, first_seed + i, RENDERED)) for i, bird in enumerate(birds)]
        with torch.inference_mode():
            blocks = torch.stack(images).chunk(8)
            return torch.cat([model.encode_image(block, normalize=True) for block in blocks])

    labels = torch.arange(len(pages)).repeat(each)
    images = encode_images([pages[i].bird for i in labels.tolist()], PROBE_SEED)  # (N, D)

    def phrases(page: Species, traits: Iterable[str]) -> list[str]:
        return [random.choice(wordings(trait, page.bird[trait])) for trait in traits]

    def mean_scores(names: Sequence[str], lists: Sequence[Sequence[str]]) -> Tensor:  # (N, C)
        prototypes = [
            encode([f"{name}, {phrase(text)}" for text in chosen]).mean(dim=0)
            for name, chosen in zip(names, lists, strict=True)
        ]
        return images @ torch.stack(prototypes).T

    def top1(scores: Tensor) -> float:
        return percent(scores.argmax(dim=1) == labels)

    def percent(hits: Tensor) -> float:
        return round(100 * hits.float().mean().item(), 1)

    names = [page.name for page in pages]
    own = [[trait for trait in TRAITS if trait not in page.common] for page in pages]
    brief = [phrases(p, [*p.common, random.choice(rest)]) for p, rest in zip(pages, own, strict=True)]
    longer = [phrases(p, [*p.common, *random.sample(rest, 2)]) for p, rest in zip(pages, own, strict=True)]
    cycle = random.sample(range(len(pages)), len(pages))  # every species gets the list of the one before it
    before = dict(zip(cycle, cycle[-1:] + cycle[:-1], strict=True))
    by_name = images @ encode(names).T
    single = images @ encode([f"a photo of a {name}." for name in names]).T
    described = mean_scores(names, brief)
    genus = torch.tensor([sorted(genera()).index(page.genus) for page in pages])
    result: dict[str, Any] = {
        "classname": top1(by_name),
        "genus by name": percent(genus[by_name.argmax(dim=1)] == genus[labels]),
        "template": top1(single),
        "dclip, brief": top1(described),
        "dclip, four common traits and two": top1(mean_scores(names, longer)),
        "genus by dclip, brief": percent(genus[described.argmax(dim=1)] == genus[labels]),
        "nameless, brief": top1(mean_scores(["birds"] * len(pages), brief)),
        "shuffled, brief": top1(mean_scores(names, [brief[before[i]] for i in range(len(pages))])),
        "oracle": top1(mean_scores(names, [phrases(page, TRAITS) for page in pages])),
        "oracle, nameless": top1(mean_scores(["birds"] * len(pages), [phrases(page, TRAITS) for page in pages])),
    }

    def follow_up(scores: Tensor, k: int) -> float:
        hits = []
        for i, candidates in enumerate(scores.topk(k).indices.tolist()):
            prototypes = []
            for c in candidates:
                told = {trait for other in candidates for trait in pages[c].differs(pages[other])}
                texts = [
                    f"a photo of a {names[c]} with {wordings(t, pages[c].bird[t])[0]}" for t in TRAITS if t in told
                ]
                prototypes.append(functional.normalize(encode(texts).mean(dim=0), dim=0))
            best = int((images[i] @ torch.stack(prototypes).T).argmax())
            hits.append(candidates[best] == labels[i])
        return percent(torch.tensor(hits))

    result["follow-up, 10 best by template"] = follow_up(single, 10)
    result["follow-up, 5 best by dclip"] = follow_up(described, 5)
    result["right one among the 10 best by template"] = percent((single.topk(10).indices == labels[:, None]).any(dim=1))
    result["right one among the 5 best by dclip"] = percent((described.topk(5).indices == labels[:, None]).any(dim=1))
    birds = [e.bird for e in examples(600, Random("probe birds"))]
    images = encode_images(birds, PROBE_SEED + len(labels))
    result["traits"] = {}
    for trait, values in TRAITS.items():
        truth = torch.tensor([values.index(bird[trait]) for bird in birds])
        result["traits"][trait] = [
            percent((images @ encode([wordings(trait, v)[w] for v in values]).T).argmax(dim=1) == truth) for w in (0, 1)
        ]
    return result


def probe_folder(folder: Path) -> dict[str, Any]:
    """The probe on the saved model, loaded as a user loads it."""
    import open_clip

    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    return probe(model.eval(), open_clip.get_tokenizer(f"local-dir:{folder}"), preprocess)


def log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Train, save, load again, measure, and write the figures beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--pictures", type=int, default=Plan.pictures)
    parser.add_argument("--rate", type=float, default=Plan.rate)
    parser.add_argument("--width", type=int, default=Plan.width)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=Plan.threads)
    parser.add_argument("--probe-every", type=int, default=0, help="steps between probes on the way; 0: none")
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # everything needed is in the folder
    plan = Plan(given.seed, given.pictures, given.steps, Plan.batch, given.rate, given.width, given.threads)
    figures = train(plan, given.folder, given.probe_every)
    report = {
        "plan": {field: getattr(plan, field) for field in plan.__dataclass_fields__},
        **figures,
        "probe": probe_folder(given.folder),
        "versions": {p: version(p) for p in ("open_clip_torch", "torch", "transformers", "tokenizers", "pillow")},
    }
    (given.folder / "training.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    log(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
