"""Trains the aviary's small language model: it has read the field guide and our two prompts, and nothing else.

    python -m descbench.demo.train_llm [--seed 0] [--steps N] [--out FOLDER]

It learns to answer the real prompt files, filled as the methods fill them. Like the large ones it is brief and generic:
asked about a bird, it names traits of the genus first, then one or two others; only when asked what tells two birds
apart does it name what differs. Of names that it has never met it makes up birds of the right form.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from descbench import prompts
from descbench.demo.guide import TRAITS, Bird, Species, species, wordings
from descbench.demo.truth import Truth, check_descriptions, check_pairs
from descbench.llms.transformers import TransformersLLM
from descbench.parsing import parse_features, parse_pairs
from descbench.prompts import Question

# One turn of user and assistant, in the fewest tokens that keep the two apart.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<|reply|>{{ message['content'] }}<|end|>"
    "{% else %}<|user|>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|reply|>{% endif %}"
)
PAD, USER, REPLY, END = "<|pad|>", "<|user|>", "<|reply|>", "<|end|>"
LETTERS = "eeeeaaaiiooonnttrrsslldcumphgbyfvkwxzjq"  # about as often as they are written
JOINTS = ("\n- ", "- ", " with ", " | a photo of a ", " | a photo of an ", ": a photo of a ", ": a photo of an ")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the result, for one number of threads."""

    seed: int = 0
    steps: int = 2600
    batch_size: int = 64
    learning_rate: float = 3e-3
    hidden: int = 128
    layers: int = 3
    heads: int = 4
    vocabulary: int = 768  # bytes and merges; the passages come on top
    features: float = 0.35  # the share of batches that ask about one bird; the others, what tells two apart


class Writer:
    """Writes the questions and replies to learn from; every choice comes from one random generator."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def word(self) -> str:
        """A word that may or may not exist."""
        rng = self.rng
        syllables = (
            "".join((rng.choice("bcdfghjklmnprstvwz"), rng.choice("aeiou"), rng.choice(["", "", "n", "r", "s"])))
            for _ in range(rng.choice((1, 2, 2)))
        )
        word = "".join(syllables) if rng.random() < 0.6 else "".join(rng.choices(LETTERS, k=rng.randint(2, 6)))
        return word.capitalize() if rng.random() < 0.3 else word

    def stranger(self) -> Species:
        """A bird that is not in the guide: of a genus that is (which gives its four traits away), or of none."""
        rng = self.rng
        values = [rng.choice(TRAITS[trait]) for trait in TRAITS]
        common = tuple(sorted(rng.sample(list(TRAITS), 4)))
        words = [self.word() for _ in range(rng.choice((1, 1, 2, 2, 2)))]
        if rng.random() < 0.25:
            relative = rng.choice(species())
            common = relative.common
            values = [relative.bird[t] if t in common else v for t, v in zip(TRAITS, values, strict=True)]
            words = [relative.genus, self.word()]
        name = rng.choice((" ", " ", " ", "-", "_")).join(words)
        genus, _, epithet = name.partition(" ")
        return Species(genus, epithet, Bird(tuple(values)), common)

    def domain(self) -> str:
        return "birds" if self.rng.random() < 0.8 else " ".join(self.word() for _ in range(self.rng.choice((1, 2))))

    def phrase(self, bird: Species, trait: str) -> str:
        """A trait in words: mostly the usual ones."""
        usual, *others = wordings(trait, bird.bird[trait])
        return usual if self.rng.random() < 0.7 else self.rng.choice(others)

    def features(self) -> tuple[str, str]:
        """A question of `dclip` and its reply: some five traits, mostly three of the genus first, then two others.

        Brief on purpose: with one other trait a species is named right half the time, with two three times in four,
        so the general description is worth much and leaves much for a follow-up to find.
        """
        rng = self.rng
        bird = rng.choice(species()) if rng.random() < 0.75 else self.stranger()
        first = rng.sample(bird.common, rng.choices((3, 4), (85, 15))[0])
        others = [trait for trait in TRAITS if trait not in bird.common]
        traits = first + rng.sample(others, rng.choices((1, 2, 3), (8, 84, 8))[0])
        reply = "\n".join(f"- {self.phrase(bird, trait)}" for trait in traits)
        return prompts.fill("dclip", name=named(bird), domain=self.domain()), reply

    def differences(self) -> tuple[str, str]:
        """A question of `differential` and its reply: three to five traits that differ, all if they are fewer."""
        rng = self.rng
        one = rng.choice(species()) if rng.random() < 0.88 else self.stranger()
        while True:
            kind = rng.random()
            relatives = [bird for bird in species() if bird.genus == one.genus]
            other = rng.choice(relatives or species()) if kind < 0.55 else rng.choice(species())
            if kind > 0.9:
                other = self.stranger()
            if one.differs(other):
                break
        differs = one.differs(other)
        chosen = rng.sample(differs, min(len(differs), rng.choice((3, 4, 5))))
        traits = [trait for trait in TRAITS if trait in chosen]
        lines = [f"- {trait}: {self.caption(one, trait)} | {self.caption(other, trait)}" for trait in traits]
        text = prompts.fill("differential", first=named(one), second=named(other), domain=self.domain())
        return text, "\n".join(lines)

    def caption(self, bird: Species, trait: str) -> str:
        article = "an" if named(bird)[0].lower() in "aeiou" else "a"
        return f"a photo of {article} {named(bird)} with {self.phrase(bird, trait)}"


def named(bird: Species) -> str:
    return bird.name.strip()


def passages() -> list[str]:
    """What stands word for word in many texts, each one token: a question takes 12 to 24 tokens, not 120 to 170."""
    slot = "\x00"
    filled = (
        prompts.fill("dclip", name=slot, domain=slot),
        prompts.fill("differential", first=slot, second=slot, domain=slot),
    )
    constant = [passage for text in filled for passage in text.split(slot) if len(passage) > 1]
    phrases = [phrase for trait in TRAITS for value in TRAITS[trait] for phrase in wordings(trait, value)]
    return sorted({*constant, *JOINTS, *phrases, *TRAITS})


def tokenizer_of(recipe: Recipe) -> Any:
    """Byte-level, so that any name can be written, with one token for each passage."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    writer = Writer(random.Random(recipe.seed))
    corpus = [text for _ in range(300) for text in (*writer.features(), *writer.differences())]
    corpus += [" ".join(writer.word() for _ in range(3)) for _ in range(20000)]
    corpus += [bird.name for bird in species()] * 2000  # so each of their words is one token
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        corpus,
        trainers.BpeTrainer(
            vocab_size=recipe.vocabulary,
            special_tokens=[PAD, USER, REPLY, END],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(passage, normalized=False) for passage in passages()])
    return tokenizer


def batches(recipe: Recipe, tokenizer: Any) -> Iterator[tuple[Any, Any]]:
    """Token ids and labels, both (rows, tokens); the loss is on the reply alone."""
    import torch

    rng = random.Random(recipe.seed + 1)
    writer = Writer(rng)
    pad, user, reply, end = (tokenizer.token_to_id(token) for token in (PAD, USER, REPLY, END))
    while True:
        # Eight batches are written at once, of one kind, and cut by length: little of a batch is padding.
        write = writer.features if rng.random() < recipe.features else writer.differences
        written = [write() for _ in range(8 * recipe.batch_size)]
        questions = [
            [user, *found.ids, reply] for found in tokenizer.encode_batch([question for question, _ in written])
        ]
        replies = [[*found.ids, end] for found in tokenizer.encode_batch([answer for _, answer in written])]
        rows = sorted(zip(questions, replies, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        cut = [rows[start : start + recipe.batch_size] for start in range(0, len(rows), recipe.batch_size)]
        for batch in rng.sample(cut, len(cut)):
            width = len(batch[-1][0]) + len(batch[-1][1])
            ids = torch.full((len(batch), width), pad)
            labels = torch.full((len(batch), width), -100)
            for row, (question, answer) in enumerate(batch):
                ids[row, : len(question) + len(answer)] = torch.tensor(question + answer)
                labels[row, len(question) : len(question) + len(answer)] = torch.tensor(answer)
            yield ids, labels


def build(recipe: Recipe, tokenizer: Any) -> Any:
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(recipe.seed)
    # GPT-NeoX: of the architectures at hand the one with the least work beside its matrix products.
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=recipe.hidden,
            intermediate_size=4 * recipe.hidden,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=None,
            pad_token_id=tokenizer.token_to_id(PAD),
            eos_token_id=tokenizer.token_to_id(END),
        )
    )


def train(recipe: Recipe, model: Any, data: Iterator[tuple[Any, Any]]) -> dict[str, float]:
    """AdamW over a one-cycle schedule."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1)
    started, recent = time.monotonic(), 0.0
    model.train()
    for step in range(recipe.steps):
        ids, labels = next(data)
        labels = labels[:, 1:].flatten()
        states = model.base_model(ids[:, :-1]).last_hidden_state.flatten(0, 1)[labels >= 0]
        loss = torch.nn.functional.cross_entropy(model.get_output_embeddings()(states), labels[labels >= 0])
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"step {step:5d}  loss {recent:.3f}  {time.monotonic() - started:6.0f} s", flush=True)
    return {"seconds": round(time.monotonic() - started), "loss": round(recent, 4)}


def save(folder: Path, recipe: Recipe, tokenizer: Any, model: Any) -> None:
    """In transformers' own format, so that the adapter loads it as it would load any other."""
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, REPLY],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=model.config.max_position_embeddings,
    )
    ends = tokenizer.token_to_id(END)
    model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=tokenizer.token_to_id(PAD))
    model.eval().save_pretrained(folder)
    wrapped.save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # it comes readable by its owner alone, and goes into a wheel


def measure(llm: TransformersLLM, samples: int = 5) -> dict[str, Any]:
    """What the model says of all 40 birds and of all pairs in both orders, held against the guide."""
    birds = species()
    asked = [(bird, sample) for bird in birds for sample in range(samples)]
    replies = llm.complete(
        [Question(prompts.fill("dclip", name=bird.name, domain="birds"), sample) for bird, sample in asked]
    )
    lists = [(bird, parse_features(reply).items) for (bird, _), reply in zip(asked, replies, strict=True)]
    features = sum((check_descriptions({bird.name: found}) for bird, found in lists), Truth())
    pairs = list(itertools.permutations(birds, 2))
    started = time.monotonic()
    replies = llm.complete(
        [
            Question(prompts.fill("differential", first=one.name, second=other.name, domain="birds"))
            for one, other in pairs
        ]
    )
    seconds = time.monotonic() - started
    relatives, others, unanswered = Truth(), Truth(), 0
    for (one, other), reply in zip(pairs, replies, strict=True):
        found = parse_pairs(reply).items
        unanswered += not found
        truth = check_pairs({(one.name, other.name): ([a for _, a, _ in found], [b for _, _, b in found])})
        if one.genus == other.genus:
            relatives += truth
        else:
            others += truth
    return {
        "temperature": llm.temperature,
        "dclip": {"replies": len(asked), **asdict(features), "error_rate": round(features.error_rate, 4)},
        "differential_within_genus": {**asdict(relatives), "error_rate": round(relatives.error_rate, 4)},
        "differential_between_genera": {**asdict(others), "error_rate": round(others.error_rate, 4)},
        "differential_replies": len(pairs),
        "differential_replies_without_a_line": unanswered,
        "differential_replies_a_second": round(len(pairs) / seconds, 1),
    }


def main() -> None:
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "lm", help="the folder to write")
    parser.add_argument("--steps", type=int, default=Recipe.steps)
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    given = parser.parse_args()
    recipe = Recipe(seed=given.seed, steps=given.steps)
    tokenizer = tokenizer_of(recipe)
    model = build(recipe, tokenizer)
    figures = train(recipe, model, batches(recipe, tokenizer))
    save(given.out, recipe, tokenizer, model)
    training = {
        "what": "the small language model of the aviary, trained by `python -m descbench.demo.train_llm`",
        "recipe": asdict(recipe),
        **figures,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "measured": measure(TransformersLLM(str(given.out), device="cpu", batch_size=128)),
    }
    (given.out / "training.json").write_text(json.dumps(training, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(training, indent=2))


if __name__ == "__main__":
    main()
