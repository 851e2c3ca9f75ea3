"""A bird of the guide as a picture: parts drawn one by one as polygons of one local coordinate system, then posed.

Everything that is not a trait (pose, size, place, background, light, noise) comes from the seed alone, so two birds
drawn with one seed differ in nothing but their traits. In the local system the bird looks to the right, x grows to the
right and y downwards, the body's middle is the origin, and the body is about one unit long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageChops, ImageDraw

from descbench.demo.guide import Bird

Point = tuple[float, float]
Colour = tuple[int, int, int]

PAINT: dict[str, Colour] = {
    "black": (34, 34, 38),
    "white": (240, 240, 236),
    "red": (206, 30, 38),
    "orange": (244, 128, 20),
    "yellow": (248, 216, 40),
    "green": (48, 150, 62),
    "blue": (38, 92, 210),
    "purple": (132, 52, 168),
}
HORN: Colour = (104, 88, 74)  # every beak: its shape is the trait, not its colour
PALE: Colour = (250, 244, 222)  # marks on a dark wing
DARK: Colour = (52, 36, 30)  # marks on a light wing


@dataclass(frozen=True)
class Shape:
    """One polygon of a part, in local coordinates."""

    part: str
    points: tuple[Point, ...]
    fill: Colour
    outlined: bool = True


@dataclass(frozen=True)
class Pose:
    """From local coordinates to the picture, the side of which is 1."""

    x: float
    y: float
    scale: float
    tilt: float
    flip: bool

    def place(self, point: Point) -> Point:
        x, y = point
        turned_x = x * math.cos(self.tilt) - y * math.sin(self.tilt)
        turned_y = x * math.sin(self.tilt) + y * math.cos(self.tilt)
        return self.x + self.scale * (-turned_x if self.flip else turned_x), self.y + self.scale * turned_y


def render(bird: Bird, seed: int, size: int = 128) -> Image.Image:
    """The picture of a bird, RGB, `size` pixels square: the same arguments give the same pixels."""
    pose_random, scene_random, light_random = (Random(f"{seed} {stream}") for stream in ("pose", "scene", "light"))
    side = size * _finer(size)
    pose = _pose(pose_random)
    picture = _scene(scene_random, pose, side)
    for shape in shapes(bird, pose_random):
        _draw(picture, shape, pose, shape.fill, _mix(shape.fill, (20, 16, 20), 0.55))
    return _lit(picture.resize((size, size), Image.Resampling.BOX), light_random)


def parts(bird: Bird, seed: int, size: int = 128) -> dict[str, Image.Image]:
    """Where `render` draws each part, as far as nothing covers it: from "tail" to "eye", each white on black, mode L.

    A pixel is white where the part has most of it. A part that is not there ("crest" of a bare crown) has no entry.
    """
    pose_random = Random(f"{seed} pose")
    side = size * _finer(size)
    pose = _pose(pose_random)
    drawn = list(shapes(bird, pose_random))
    names = list(dict.fromkeys(shape.part for shape in drawn))
    labels = Image.new("L", (side, side), len(names))
    for shape in drawn:
        _draw(labels, shape, pose, names.index(shape.part), names.index(shape.part))
    masks = {}
    for number, name in enumerate(names):
        alone = labels.point([255 * (value == number) for value in range(256)])
        masks[name] = alone.resize((size, size), Image.Resampling.BOX).point([255 * (v > 127) for v in range(256)])
    return masks


def _finer(size: int) -> int:
    """How much larger a picture is drawn than it will be: reduced, its edges are smooth."""
    return 2 if size >= 200 else 3


def _draw(picture: Image.Image, shape: Shape, pose: Pose, fill: Colour | int, edge: Colour | int) -> None:
    draw, side = ImageDraw.Draw(picture), picture.width
    points = [(x * side, y * side) for x, y in map(pose.place, shape.points)]
    draw.polygon(points, fill=fill)
    if shape.outlined:
        draw.line([*points, points[0], points[1]], fill=edge, width=max(1, round(pose.scale * side * 0.022)))


def shapes(bird: Bird, random: Random) -> Iterator[Shape]:
    """The polygons of a bird from back to front; `random` moves each colour a little, as plumages vary."""
    shade = {colour: _jitter(paint, random) for colour, paint in PAINT.items()}
    for part in _PARTS:
        yield from part(bird, shade)


# The parts. Each takes the bird and the shades of this picture, and yields its polygons, back to front.

_AXIS = math.radians(-24)  # the body rises towards the head
_HEAD: Point = (0.47, -0.47)


def _tail(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    fill = _mix(shade[bird["body"]], (20, 16, 20), 0.12)

    def feather(*points: Point) -> Shape:  # along the tail, from its root at the rump; y to its right
        root = _turn((-0.42, 0.0), _AXIS)
        angle = _AXIS + math.radians(2)
        turned = tuple(_turn((-along, across), angle) for along, across in points)
        return Shape("tail", tuple((root[0] + x, root[1] + y) for x, y in turned), fill)

    match bird["tail"]:
        case "short":
            yield feather((-0.1, -0.16), (0.27, -0.15), (0.27, 0.15), (-0.1, 0.16))
        case "long":
            side = [(-0.1, 0.1), (0.4, 0.055), (0.82, 0.07), (0.86, 0.0)]
            yield feather(*side, *((x, -y) for x, y in reversed(side[:-1])))
        case "forked":
            side = [(-0.1, 0.12), (0.2, 0.13), (0.68, 0.36), (0.36, 0.0)]
            yield feather(*side, *((x, -y) for x, y in reversed(side[:-1])))
        case "fanned":
            rim = [math.radians(a) for a in (-44, -30, -15, 0, 15, 30, 44)]
            yield feather((-0.1, -0.08), *((0.66 * math.cos(a), 0.66 * math.sin(a)) for a in rim), (-0.1, 0.08))
            for a in rim[1:-1]:
                tip = (0.6 * math.cos(a), 0.6 * math.sin(a))
                yield feather((0.15, 0.1 * math.sin(a)), tip, (tip[0], tip[1] + 0.012))


def _legs(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    fill = shade[bird["legs"]]
    for x in (-0.1, 0.16):
        yield Shape("legs", ((x - 0.04, 0.2), (x + 0.05, 0.2), (x + 0.05, 0.72), (x - 0.04, 0.72)), fill)
        toes = ((x - 0.13, 0.78), (x - 0.04, 0.68), (x + 0.05, 0.68), (x + 0.2, 0.74), (x + 0.2, 0.79))
        yield Shape("legs", toes, fill)


def _body(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    fill = shade[bird["body"]]
    neck = ((0.02, -0.34), (0.28, -0.56), (0.6, -0.3), (0.46, 0.06))
    yield Shape("body", neck, fill)
    yield Shape("body", tuple(_turn(p, _AXIS) for p in _ellipse((0.0, 0.0), 0.54, 0.37)), fill)
    yield Shape("body", ((0.1, -0.3), (0.3, -0.46), (0.5, -0.3), (0.36, 0.0)), fill, outlined=False)  # no seam


def _belly(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    under = [(0.5 * math.cos(a), 0.34 * math.sin(a)) for a in _angles(-8, 162, 18)]
    upper = [(-0.22, 0.13), (0.0, 0.15), (0.26, 0.08)]
    yield Shape("belly", tuple(_turn(p, _AXIS) for p in under + upper), shade[bird["belly"]])


def _crest(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    fill = _mix(shade[bird["head"]], (20, 16, 20), 0.24)  # a shade of its own, to stand out

    def feather(*points: Point) -> Shape:  # seen from the middle of the head
        return Shape("crest", tuple((_HEAD[0] + x, _HEAD[1] + y) for x, y in points), fill)

    match bird["crest"]:
        case "pointed":
            yield feather((0.16, -0.18), (-0.02, -0.42), (-0.64, -0.58), (-0.27, -0.08))
        case "round":
            dome = [(-0.05 + 0.37 * math.cos(a), -0.24 + 0.33 * math.sin(a)) for a in _angles(165, 375, 16)]
            yield feather(*dome)
        case "spiky":
            for degrees in (-150, -122, -94, -66, -38):
                a = math.radians(degrees)
                left, right = a - 0.3, a + 0.3
                yield feather(
                    (0.2 * math.cos(left), 0.2 * math.sin(left)),
                    (0.6 * math.cos(a), 0.6 * math.sin(a)),
                    (0.2 * math.cos(right), 0.2 * math.sin(right)),
                )


def _beak(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    def horn(*points: Point) -> Shape:  # seen from the middle of the head
        return Shape("beak", tuple((_HEAD[0] + x, _HEAD[1] + y) for x, y in points), HORN)

    match bird["beak"]:
        case "long":
            yield horn((0.16, -0.09), (0.78, 0.03), (0.16, 0.11))
        case "short":
            yield horn((0.12, -0.15), (0.4, 0.03), (0.12, 0.17))
        case "hooked":
            yield horn(
                (0.12, -0.17), (0.36, -0.16), (0.51, -0.05), (0.51, 0.27), (0.39, 0.09), (0.32, 0.12), (0.12, 0.13)
            )
        case "curved":
            outer = [(0.14 + 0.56 * math.sin(a), 0.46 - 0.56 * math.cos(a)) for a in _angles(0, 88, 9)]
            inner = [(0.14 + 0.5 * math.sin(a), 0.52 - 0.42 * math.cos(a)) for a in _angles(84, 0, 9)]
            yield horn(*outer, *inner)


def _head(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    yield Shape("head", _ellipse(_HEAD, 0.285, 0.265), shade[bird["head"]])


def _wing(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    fill = shade[bird["wings"]]
    mark = PALE if _luminance(fill) < 150 else DARK

    def on_wing(points: list[Point]) -> tuple[Point, ...]:  # along the wing 0..1, across it -1..1 at its widest
        return tuple(_turn((0.25 - 0.84 * along, -0.09 + 0.235 * across), _AXIS - 0.06) for along, across in points)

    def outline(inset: float) -> list[Point]:
        along = [inset * 0.55 + (1 - 1.1 * inset) * i / 12 for i in range(13)]
        width = 1 - inset
        return [(t, -_half_width(t) * width) for t in along] + [(t, _half_width(t) * width) for t in reversed(along)]

    edged = bird["pattern"] == "edged"
    yield Shape("wing", on_wing(outline(0.0)), mark if edged else fill)
    if edged:
        yield Shape("wing", on_wing(outline(0.36)), fill, outlined=False)
    elif bird["pattern"] == "striped":
        for start in (0.14, 0.32, 0.5, 0.68):
            near, far = _half_width(start) * 0.96, _half_width(start + 0.08) * 0.96
            bar = [(start, -near), (start + 0.08, -far), (start + 0.08, far), (start, near)]
            yield Shape("wing", on_wing(bar), mark, outlined=False)
    elif bird["pattern"] == "spotted":
        for t, s in ((0.13, 0.1), (0.28, -0.46), (0.3, 0.46), (0.46, 0.0), (0.62, -0.42), (0.61, 0.42), (0.78, 0.0)):
            dot = [(t + 0.062 * math.cos(a), s + 0.23 * math.sin(a)) for a in _angles(0, 330, 12)]
            yield Shape("wing", on_wing(dot), mark, outlined=False)


def _eye(bird: Bird, shade: dict[str, Colour]) -> Iterator[Shape]:
    x, y = _HEAD[0] + 0.1, _HEAD[1] - 0.06
    yield Shape("eye", _ellipse((x, y), 0.066, 0.066), (250, 248, 240), outlined=False)
    yield Shape("eye", _ellipse((x + 0.005, y), 0.046, 0.046), (16, 14, 18), outlined=False)
    yield Shape("eye", _ellipse((x + 0.02, y - 0.018), 0.015, 0.015), (250, 250, 250), outlined=False)


_PARTS: tuple[Callable[[Bird, dict[str, Colour]], Iterator[Shape]], ...] = (
    _tail,
    _legs,
    _body,
    _belly,
    _crest,
    _beak,
    _head,
    _wing,
    _eye,
)


def _half_width(along: float) -> float:
    """The wing's outline: round at the shoulder, pointed at the tip."""
    return (
        math.sqrt(max(0.0, 1 - ((along - 0.33) / 0.33) ** 2))
        if along < 0.33
        else max(0.0, 1 - ((along - 0.33) / 0.67) ** 1.9)
    )


# The picture around the bird.


def _pose(random: Random) -> Pose:
    scale = random.uniform(0.325, 0.39)
    flip = random.random() < 0.5
    # The middle of the bird's extent (beak to tail, crest to feet) is a little off the body's middle.
    return Pose(
        x=0.5 + random.uniform(-0.035, 0.035) + (0.025 if flip else -0.025),
        y=0.54 + random.uniform(-0.04, 0.04),
        scale=scale,
        tilt=math.radians(random.uniform(-11, 11)),
        flip=flip,
    )


def _gradient(top: Colour, bottom: Colour, side: int) -> Image.Image:
    ramp = Image.linear_gradient("L").resize((side, side))
    return Image.composite(Image.new("RGB", (side, side), bottom), Image.new("RGB", (side, side), top), ramp)


def _scene(random: Random, pose: Pose, side: int) -> Image.Image:
    """A background with something to stand on under the feet."""
    feet = pose.y + 0.78 * pose.scale
    return random.choice((_sky, _foliage, _sand, _water, _dusk, _snow))(random, pose.x, feet, side)


def _sky(random: Random, middle: float, feet: float, side: int) -> Image.Image:
    picture = _gradient(_jitter((118, 172, 226), random, 22), _jitter((206, 228, 240), random, 14), side)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randint(1, 4)):
        x, y, r = random.random(), random.uniform(0.05, 0.6), random.uniform(0.05, 0.11)
        for dx in (-1.2, 0.0, 1.2):
            _disc(draw, x + dx * r, y + abs(dx) * r * 0.3, r * 1.3, r * 0.8, (236, 243, 248), side)
    _branch(draw, random, feet, side)
    return picture


def _foliage(random: Random, middle: float, feet: float, side: int) -> Image.Image:
    picture = _gradient(_jitter((148, 186, 128), random, 24), _jitter((88, 128, 84), random, 24), side)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randint(14, 26)):
        x, y, r = random.random(), random.random(), random.uniform(0.03, 0.09)
        leaf = _mix((60, 104, 56), (176, 206, 150), random.random())
        _disc(draw, x, y, r, r * random.uniform(0.4, 0.9), leaf, side)
    _branch(draw, random, feet, side)
    return picture


def _sand(random: Random, middle: float, feet: float, side: int) -> Image.Image:
    picture = _gradient(_jitter((188, 212, 226), random, 16), _jitter((226, 226, 214), random, 12), side)
    draw = ImageDraw.Draw(picture)
    ground = _jitter((216, 190, 142), random, 16)
    _hills(draw, random, feet - random.uniform(0.06, 0.3), _mix(ground, (255, 255, 255), 0.25), side)
    _ground(draw, random, middle, feet, ground, side)
    return picture


def _water(random: Random, middle: float, feet: float, side: int) -> Image.Image:
    picture = _gradient(_jitter((168, 202, 212), random, 16), _jitter((96, 148, 172), random, 18), side)
    draw = ImageDraw.Draw(picture)
    for _ in range(random.randint(8, 14)):
        x, y, w = random.random(), random.uniform(0.35, 1.0), random.uniform(0.06, 0.2)
        _disc(draw, x, y, w, 0.006, (200, 222, 230), side)
    stone = _jitter((128, 122, 116), random, 14)
    _disc(draw, middle, feet + 0.045, random.uniform(0.2, 0.28), 0.06, stone, side)
    return picture


def _dusk(random: Random, middle: float, feet: float, side: int) -> Image.Image:
    picture = _gradient(_jitter((92, 84, 128), random, 18), _jitter((232, 168, 140), random, 18), side)
    draw = ImageDraw.Draw(picture)
    x, r = random.uniform(0.1, 0.9), random.uniform(0.06, 0.1)
    _disc(draw, x, random.uniform(0.5, 0.75), r, r, (250, 212, 168), side)
    _hills(draw, random, random.uniform(0.7, 0.85), (112, 90, 118), side)
    _branch(draw, random, feet, side)
    return picture


def _snow(random: Random, middle: float, feet: float, side: int) -> Image.Image:
    picture = _gradient(_jitter((160, 174, 190), random, 16), _jitter((204, 212, 220), random, 12), side)
    draw = ImageDraw.Draw(picture)
    _ground(draw, random, middle, feet, (226, 230, 236), side)
    for _ in range(random.randint(10, 30)):
        r = random.uniform(0.004, 0.011)
        _disc(draw, random.random(), random.random(), r, r, (242, 246, 250), side)
    return picture


def _branch(draw: ImageDraw.ImageDraw, random: Random, feet: float, side: int) -> None:
    thick, slope = random.uniform(0.02, 0.035), random.uniform(-0.03, 0.03)
    bark = _jitter((112, 84, 62), random, 14)
    corners = ((0, feet - slope), (1, feet + slope), (1, feet + slope + thick), (0, feet - slope + thick * 1.6))
    draw.polygon([(x * side, y * side) for x, y in corners], fill=bark)


def _hills(draw: ImageDraw.ImageDraw, random: Random, top: float, fill: Colour, side: int) -> None:
    phase, waves = random.uniform(0, 6.3), random.uniform(3, 8)
    ridge = [(i / 16, top + 0.03 * math.sin(phase + waves * i / 16)) for i in range(17)]
    draw.polygon([(x * side, y * side) for x, y in [*ridge, (1.0, 1.0), (0.0, 1.0)]], fill=fill)


def _ground(draw: ImageDraw.ImageDraw, random: Random, middle: float, feet: float, fill: Colour, side: int) -> None:
    _hills(draw, random, feet - random.uniform(0.02, 0.06), fill, side)
    _disc(draw, middle, feet + 0.005, 0.2, 0.022, _mix(fill, (60, 56, 70), 0.3), side)  # the bird's shadow


def _disc(draw: ImageDraw.ImageDraw, x: float, y: float, rx: float, ry: float, fill: Colour, side: int) -> None:
    draw.ellipse([(x - rx) * side, (y - ry) * side, (x + rx) * side, (y + ry) * side], fill=fill)


def _lit(picture: Image.Image, random: Random) -> Image.Image:
    """Light, tint, contrast and a little grain."""
    light, contrast = random.uniform(0.82, 1.1), random.uniform(0.85, 1.12)
    tables: list[int] = []
    for _ in range(3):
        gain = light * random.uniform(0.94, 1.06)
        tables += [max(0, min(255, round(118 + (value * gain - 118) * contrast))) for value in range(256)]
    picture = picture.point(tables)
    width, height = picture.size
    grain = Image.frombytes("L", picture.size, random.randbytes(width * height))
    reach = random.randint(4, 16)
    grain = grain.point([round(value * reach / 255) for value in range(256)])
    return ImageChops.add(picture, Image.merge("RGB", (grain, grain, grain)), offset=-reach // 2)


# Small geometry and colour.


def _angles(first: float, last: float, count: int) -> list[float]:
    return [math.radians(first + (last - first) * i / (count - 1)) for i in range(count)]


def _ellipse(middle: Point, rx: float, ry: float) -> tuple[Point, ...]:
    return tuple((middle[0] + rx * math.cos(a), middle[1] + ry * math.sin(a)) for a in _angles(0, 348, 30))


def _turn(point: Point, angle: float) -> Point:
    x, y = point
    return x * math.cos(angle) - y * math.sin(angle), x * math.sin(angle) + y * math.cos(angle)


def _mix(one: Colour, other: Colour, share: float) -> Colour:
    r, g, b = (round(a + (c - a) * share) for a, c in zip(one, other, strict=True))
    return r, g, b


def _jitter(colour: Colour, random: Random, reach: int = 12) -> Colour:
    r, g, b = (max(0, min(255, channel + random.randint(-reach, reach))) for channel in colour)
    return r, g, b


def _luminance(colour: Colour) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
