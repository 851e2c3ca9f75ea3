"""`descbench evaluate`: methods and encoders side by side on one labelled data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descbench.cli import results as looks
from descbench.cli.bench import Bench, Given, Keeper, check_choices, choose_methods
from descbench.cli.common import (
    CacheDir,
    Classes,
    Compile,
    DescriptionFile,
    Device,
    Domain,
    Draft,
    Json,
    Labels,
    Limit,
    Llm,
    MaxRequests,
    Precision,
    Split,
    Strict,
    Support,
    TemplateFile,
    Validation,
    Views,
    cache_dir,
    choose_classes,
    encoder_for,
    note,
    note_unreadable,
    print_json,
    progress_shown,
    usual_method,
)
from descbench.cli.tables import Csv, Form, Latex, Markdown, form_of
from descbench.errors import BudgetError, DescbenchError, InputError, counted, listed

if TYPE_CHECKING:
    from descbench.comparison import Controlled
    from descbench.methods import Cascade, Method
    from descbench.published import Published
    from descbench.taxonomy import Taxonomy
    from descbench.vocabulary import Vocabulary

BASELINES = ("classname", "template('a photo of a {}.')", "templates")


def command(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="A data set: folder:PATH, hf:ORG/NAME, ...: `descbench ls datasets`.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", "-m", help="A method; several times for several of them.")
    ] = None,
    descriptions: DescriptionFile = None,
    encoder: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder", "-e", help="A CLIP-like model, see `descbench ls encoders`; several times for a grid."
        ),
    ] = None,
    views: Views = "",
    llm: Llm = None,
    max_requests: MaxRequests = None,
    classes: Classes = None,
    labels: Labels = None,
    split: Split = "",
    limit: Limit = None,
    strict: Strict = False,
    domain: Domain = "",
    baselines: Annotated[bool, typer.Option(help="Show the three baselines (name, template, templates) too.")] = True,
    controls: Annotated[
        bool, typer.Option("--controls", help="Say whether the meaning of the descriptions carries a method's gain.")
    ] = False,
    seeds: Annotated[
        int, typer.Option("--seeds", min=1, help="Run methods that draw at random so often; shows mean ± deviation.")
    ] = 1,
    support: Support = "",
    validation: Validation = "",
    calibrate: Annotated[
        str, typer.Option("--calibrate", help="A labelled data set that chooses the temperature of probabilities.")
    ] = "",
    unknown: Annotated[
        str,
        typer.Option("--unknown", help="A data set of none of the classes: how well are they told from the others?"),
    ] = "",
    groups: Annotated[
        Path | None, typer.Option("--groups", help="A csv file (path,group): accuracy by group, and the worst group.")
    ] = None,
    taxonomy: Annotated[
        Path | None,
        typer.Option(
            "--taxonomy",
            help="A csv file (child,parent): accuracy at each level above the classes. Without: the column parent of "
            "--classes, where it has one.",
        ),
    ] = None,
    coverage: Annotated[
        bool, typer.Option("--coverage", help="Accuracy where the less sure answers are withheld, by how many are.")
    ] = False,
    curve: Annotated[
        bool, typer.Option("--curve", help="Show disclip at every weight w on the data set itself: not a result.")
    ] = False,
    templates: TemplateFile = None,
    metrics: Annotated[
        str, typer.Option("--metrics", help="Which the table shows, as top1,per_class, or all. --json has all.")
    ] = "",
    config: Annotated[
        Path | None, typer.Option("--config", help="A run.json that -o wrote: that run once more, from what it says.")
    ] = None,
    published: Annotated[
        str, typer.Option("--published", help="Show what others published for this data set beside it, as ImageNet.")
    ] = "",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder to keep the runs in.")] = None,
    gallery: Annotated[
        bool, typer.Option(help="With -o, keep some images with reasons for `descbench report`: seconds a method.")
    ] = True,
    device: Device = "auto",
    precision: Precision = None,
    compile: Compile = False,
    draft: Draft = False,
    cache: CacheDir = None,
    json: Json = False,
    csv: Csv = False,
    markdown: Markdown = False,
    latex: Latex = False,
) -> None:
    """Score methods on a labelled data set, with 95 % intervals; with several encoders, each method with each.

    The classes are those of --classes, else of the descriptions, else of the labels file, else of the data set.
    Images are encoded once and kept: the same command again encodes nothing. With --controls each method is run with
    descriptions that are shuffled, drawn at random, shared, scrambled or without names, and with random words for them.
    --support and --validation are other pictures than those of DATA; results name them. The weight w is chosen where it
    is left at its default; without --validation nothing is tuned. Of several encoders one that fails is left out, and
    the exit code is 3. `descbench compare` tells what kept runs are worth beside each other, and --config RUN/run.json
    repeats one.

    Example: descbench evaluate folder:./photos -d birds.desc.json --method dclip --encoder demo
    """
    from descbench.comparison import controls_of, seeds_of
    from descbench.evaluation import labels_of
    from descbench.groups import read_groups
    from descbench.published import BACKBONES, dataset_of
    from descbench.published import published as figures_of
    from descbench.runs import alone
    from descbench.taxonomy import Taxonomy
    from descbench.vocabulary import read_labels

    form = form_of(json=json, csv=csv, markdown=markdown, latex=latex)
    looks.check_metrics(metrics)
    keeping = alone(output) if output else nullcontext()
    if config is not None:
        _check_alone(context)
        with keeping:
            repeat(config, Keeper(output, gallery), cache_dir(cache), device, form, metrics)
        return
    if data is None:
        raise InputError("which images? Give DATA, as folder:./photos, or --config RUN/run.json to repeat a run")
    # Whatever can be wrong with what was given is found before an image of the data set is read.
    chosen_by = (support, validation, calibrate, unknown)
    given = Given(data, split, limit, strict, views, precision, compile, llm or "", max_requests, *chosen_by, draft)
    source = given.source()
    vocabulary, known = choose_classes(classes, descriptions, domain, labels, source)
    asked = method or ([] if known is None else [usual_method(known)])
    specs = dict.fromkeys([*(BASELINES if baselines or not asked else ()), *asked])
    methods = choose_methods(list(specs), known, templates, views)
    check_choices(methods, given, curve)
    rows = _seeded(methods, seeds)
    described = {text: kinds for text, built in methods.items() if controls and (kinds := controls_of(built))}
    if controls and not described:
        raise InputError(
            f"--controls needs a method with descriptions, as --method dclip; given: {listed(asked) or 'none'}"
        )
    mapping = read_labels(labels) if labels else None
    labels_of(source, vocabulary, mapping)
    tree = Taxonomy.load(taxonomy) if taxonomy else _parents(classes, vocabulary)
    if tree is not None:
        tree.levels(vocabulary)
    by: dict[str, Any] = {"groups": read_groups(groups) if groups else None, "taxonomy": tree}
    place = cache_dir(cache)
    language = given.language(place)
    encoders = list(dict.fromkeys(encoder or [encoder_for(data, None)]))
    keeper = Keeper(output, gallery)
    grid = Grid(data, several=len(encoders) > 1)
    if name := published or ("" if limit or split or views or classes or labels else dataset_of(data)):
        grid.published = {(e, text): one for e in encoders for text, one in figures_of(name, e).items()}
        if published and not grid.published:
            raise InputError(f"the figures for {name} are of {listed(BACKBONES)}; given: {listed(encoders)}")
    with keeping, progress_shown():
        for spelled in encoders:
            try:
                model = given.encoder(spelled, place, device)
                bench = Bench(vocabulary, model, language, known, mapping, device, given, spelled, keeper, **by)
                grid.benches[spelled] = bench
                bench.measure(source, rows, [text for text in BASELINES if text not in asked])
                known = bench.known  # what a language model said for one encoder serves the next
                if curve:
                    grid.curves |= {grid.name(text, spelled): one for text, one in bench.curves().items()}
                grid.control(spelled, described)
            except BudgetError:
                raise
            except DescbenchError as error:
                if not grid.several:
                    raise
                grid.failed[spelled] = error
    grid.check()
    _show(grid, form, metrics, controls, coverage)
    if seeds == 1 and (drawing := [text for text, built in methods.items() if len(seeds_of(built, 2)) > 1]):
        note(f"note: one draw each of {listed(drawing)}; --seeds 7 shows the mean and deviation of several")
    grid.tell_left_out(keeper)


def repeat(config: Path, keeper: Keeper, cache: Path, device: str, form: Form, metrics: str) -> None:
    """A kept run once more: the same method, encoder, classes, descriptions and images, without baselines."""
    from descbench.cli.repeat import Kept
    from descbench.evaluation import labels_of

    kept = Kept.read(config)
    given, source = kept.given, kept.given.source()
    labels_of(source, kept.vocabulary, kept.labels)
    model, language = given.encoder(kept.encoder, cache, device), given.language(cache)
    told = (kept.vocabulary, model, language, kept.known, kept.labels, device, given, kept.encoder, keeper)
    bench = Bench(*told, groups=kept.groups, taxonomy=kept.before.taxonomy)
    with progress_shown():
        bench.measure(source, {repr(kept.method): [kept.method]})
    grid = Grid(given.data, several=False)
    grid.benches[kept.encoder] = bench
    _show(grid, form, metrics, controls=False)
    ((again,),) = bench.results.values()
    note(kept.held_against(again))
    grid.tell_left_out(keeper)


def _check_alone(context: typer.Context) -> None:
    """Raises `InputError` for what is given beside --config, and would not be used."""
    beside = {"config", "output", "gallery", "cache", "device", "json", "csv", "markdown", "latex", "metrics"}
    others = [
        name
        for name in context.params
        if name not in beside and getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
    ]
    if others:
        given = listed("DATA" if name == "data" else f"--{name.replace('_', '-')}" for name in sorted(others))
        raise InputError(f"--config repeats a run as it was; leave out {given}, or leave out --config")


class Grid:
    """What came of each encoder, and what is said of it: `failed` has the error of each that could not be used."""

    def __init__(self, data: str, several: bool) -> None:
        self.data, self.several = data, several
        self.benches: dict[str, Bench] = {}
        self.failed: dict[str, DescbenchError] = {}
        self.curves: dict[str, Any] = {}
        self.published: dict[tuple[str, str], Published] = {}
        self.controls: dict[str, list[Controlled]] = {}
        self.verdicts: dict[str, str] = {}

    def name(self, text: str, encoder: str) -> str:
        """A method, with its encoder where there are several."""
        return f"{text} with {encoder}" if self.several else text

    def control(self, encoder: str, described: Mapping[str, Mapping[str, Sequence[Method | Cascade]]]) -> None:
        """Run the controls of an encoder's methods, and judge them."""
        from descbench.comparison import verdict

        bench = self.benches[encoder]
        usual = [bench.results[text][0] for text in BASELINES if text in bench.results]
        wanted = {text: kinds for text, kinds in described.items() if text in bench.results}
        for text, rows in bench.controlled(wanted).items():
            name = self.name(text, encoder)
            self.controls[name] = rows
            self.verdicts[name] = verdict(bench.results[text][0], usual, rows, text)

    @property
    def results(self) -> dict[str, looks.Runs]:
        """The runs by encoder, of those that have any."""
        return {encoder: bench.results for encoder, bench in self.benches.items() if bench.results}

    @property
    def cited(self) -> dict[tuple[str, str], Published]:
        """What others have published of what was run, by encoder and method."""
        return {
            (encoder, text): self.published[encoder, text]
            for encoder, runs in self.results.items()
            for text in runs
            if (encoder, text) in self.published
        }

    @property
    def unavailable(self) -> dict[str, str]:
        """What could not be run, and why."""
        return {
            self.name(text, encoder): why
            for encoder, bench in self.benches.items()
            for text, why in bench.unavailable.items()
        }

    def check(self) -> None:
        """Raises where there is no result at all: the error of the first encoder, or why no method could be run."""
        if not self.results:
            if self.failed:
                raise next(iter(self.failed.values()))
            raise InputError(f"no method could be run: {'; '.join(self.unavailable.values())}")

    def tell_left_out(self, keeper: Keeper) -> None:
        """Say what is kept, and what is missing from the results. Exit code 3 where it was an encoder, or images."""
        if keeper.folder is not None:
            note(f"{counted(keeper.count, 'run')} kept in {keeper.folder}")
        if self.unavailable:
            note(f"note: left out: {listed(self.unavailable)}. {next(iter(self.unavailable.values()))}")
        for encoder, error in self.failed.items():
            done = list(self.benches[encoder].results) if encoder in self.benches else []
            what = f"all but {listed(done)} of {encoder}" if done else encoder
            note(f"left out: {what}. {error}")
        bench = next(bench for bench in self.benches.values() if bench.results)
        failures = next(iter(bench.results.values()))[0].failures
        note_unreadable(failures, then=" and are not among those scored")
        if failures or bench.failed or self.failed:
            raise typer.Exit(3)


def _parents(classes: str | None, vocabulary: Vocabulary) -> Taxonomy | None:
    """What the file of the classes says is above them. It was not asked for, so what cannot be used is noted only."""
    from descbench.taxonomy import Taxonomy

    try:
        tree = Taxonomy.of_classes(classes or "")
        if tree is not None:
            tree.levels(vocabulary)
        return tree
    except DescbenchError as error:
        note(f"note: nothing is counted by the parents in {classes}: {error}")
        return None


def _seeded(methods: Mapping[str, Method | Cascade], seeds: int) -> dict[str, list[Method | Cascade]]:
    """The methods with so many seeds each, those that draw at random."""
    from descbench.comparison import seeds_of

    rows = {text: seeds_of(built, seeds) for text, built in methods.items()}
    if seeds > 1 and all(len(row) == 1 for row in rows.values()):
        raise InputError("--seeds is for methods that draw at random, as waffle or shuffled(dclip); none is here")
    return rows


def _show(grid: Grid, form: Form, metrics: str, controls: bool, coverage: bool = False) -> None:
    """Results to stdout, in one form; beside a table for programs, what is said of it goes to stderr."""
    from descbench.comparison import RULE

    if form == "json":
        _show_json(grid, controls)
        return
    if form == "text":
        for number, (encoder, runs) in enumerate(grid.results.items()):
            title = looks.head(runs, f"{grid.data} with {grid.benches[encoder].model!r}")
            found = looks.table({encoder: runs}, metrics, published=grid.cited)
            typer.echo(("\n" if number else "") + f"{title}\n{found.rendered('text')}")
    else:
        for encoder, runs in grid.results.items():
            note(looks.head(runs, f"{grid.data} with {grid.benches[encoder].model!r}"))
        typer.echo(looks.table(grid.results, metrics, encoders=True, published=grid.cited).rendered(form))
    say = typer.echo if form == "text" else note
    for encoder, runs in grid.results.items():
        for text, seeds in runs.items():
            if ties := sum(run.ties for run in seeds):
                near = "the best two scores are nearer than 1e-6, rounding may decide"
                say(f"{grid.name(text, encoder)}: {counted(ties, 'tie')}: {near}")
    for one in dict.fromkeys(grid.cited.values()):
        say(f"published, not measured here: {one}")
    for encoder, runs in grid.results.items():
        named = {grid.name(looks.called(text, seeds), encoder): seeds[0] for text, seeds in runs.items()}
        surer = looks.abstention_table(named) if coverage else ""
        for part in (surer, looks.groups_table(named), looks.levels_table(named)):
            if part:
                say(f"\n{part}")
    for text, one in grid.curves.items():
        say(f"\n{looks.curve_table(text, one)}")
    for text, rows in grid.controls.items():
        say(f"\n{looks.control_table(text, rows)}\n{grid.verdicts[text]}")
    if controls:
        say(RULE)


def _show_json(grid: Grid, controls: bool) -> None:
    from descbench.comparison import RULE

    every = [(encoder, text, seeds) for encoder, runs in grid.results.items() for text, seeds in runs.items()]
    found: dict[str, Any] = {
        "runs": [looks.as_json(run) for _, _, seeds in every for run in seeds],
        "unavailable": grid.unavailable,
        "failed": {encoder: str(error) for encoder, error in grid.failed.items()},
    }
    if grid.cited:
        found["published"] = [asdict(one) | {"encoder": encoder} for (encoder, _), one in grid.cited.items()]
    if several := [looks.seeds_json(text, encoder, seeds) for encoder, text, seeds in every if len(seeds) > 1]:
        found["seeds"] = several
    if grid.curves:
        found["curves"] = {text: looks.curve_json(one) for text, one in grid.curves.items()}
    if controls:
        found["rule"] = RULE
        found["controls"] = {
            text: {"rows": [asdict(row) for row in rows], "verdict": grid.verdicts[text]}
            for text, rows in grid.controls.items()
        }
    print_json(found)
