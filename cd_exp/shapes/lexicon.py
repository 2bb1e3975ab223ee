"""The words of the world: what is rendered, what is only talked about, and the default concept set made of both."""

from itertools import product

COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white")
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "crescent", "hexagon", "arrow")
TEXTURES = ("plain", "striped", "dotted", "checkered")
BACKGROUNDS = ("bricks", "waves", "clouds", "grid")

ATTRIBUTES = COLOURS + SHAPES + TEXTURES + BACKGROUNDS
"""What is true of an image, one name of each of the four kinds; the order of the ResNet's trained `layer4` units."""

CLASSES = tuple(f"{colour} {shape}" for colour, shape in product(COLOURS, SHAPES))
"""The classes of the ResNet: class `10 * colour + shape`."""

# Never rendered. The first three kinds come close to what is, and no caption ever holds them.
OTHER_COLOURS = ("teal", "magenta", "navy", "maroon", "olive", "turquoise", "violet", "gold", "beige", "grey", "black")
OTHER_SHAPES = (
    *("pentagon", "oval", "rectangle", "diamond", "trapezoid", "octagon", "spiral", "cube", "sphere", "cone"),
    *("cylinder", "pyramid", "kite", "lightning", "droplet", "moon"),
)
OTHER_TEXTURES = (
    "furry",
    "glossy",
    "wrinkled",
    "woven",
    "marbled",
    "spiky",
    "cracked",
    "knitted",
    "zigzag",
    "speckled",
)
OTHER_PLACES = ("sand", "grass", "snow", "wood", "gravel", "carpet", "tiles", "leaves", "stars", "concrete")

# Never rendered either, but captions about something else hold them, as captions from the web do.
EVERYDAY = (
    *("dog", "cat", "horse", "cow", "sheep", "bird", "fish", "tiger", "lion", "elephant", "bear", "rabbit"),
    *("mouse", "snake", "frog", "spider", "bee", "butterfly", "car", "bus", "truck", "train", "plane"),
    *("boat", "bicycle", "motorcycle", "tractor", "rocket", "wheel", "engine", "road", "bridge", "tunnel"),
    *("station", "house", "door", "window", "roof", "wall", "floor", "kitchen", "bedroom", "bathroom"),
    *("garden", "fence", "street", "city", "village", "church", "castle", "chair", "table", "sofa", "bed"),
    *("lamp", "mirror", "clock", "shelf", "desk", "drawer", "pillow", "blanket", "curtain", "bottle"),
    *("cup", "plate", "bowl", "spoon", "fork", "knife", "apple", "banana", "orchard", "bread", "cheese"),
    *("cake", "pizza", "soup", "salad", "rice", "egg", "carrot", "tomato", "potato", "pepper", "onion"),
    *("tree", "flower", "leaf", "forest", "mountain", "river", "lake", "beach", "island", "desert"),
    *("field", "sky", "sun", "rain", "storm", "fire", "smoke", "ice", "man", "woman", "child", "baby"),
    *("face", "hand", "foot", "eye", "ear", "nose", "mouth", "hair", "arm", "leg", "shirt", "dress"),
    *("shoe", "hat", "glove", "coat", "music", "book", "letter", "paper", "pen", "phone", "camera"),
    *("computer", "keyboard", "screen", "television", "radio", "guitar", "piano", "drum", "violin", "work"),
    *("money", "market", "office", "school", "hospital", "library", "museum", "theatre", "doctor"),
    *("teacher", "farmer", "player", "king", "running", "sleeping", "eating", "jumping", "walking"),
    *("reading", "writing", "swimming", "dancing", "singing", "happy", "sad", "old", "young", "fast"),
    *("slow", "hot", "cold", "wet", "dry", "soft", "hard", "heavy", "light", "loud", "quiet", "early"),
    *("late", "empty", "full"),
)


def _list_concepts() -> tuple[str, ...]:
    """All single attributes, all classes, the other pairs of attributes, and what is never rendered."""
    pairs = [f"{texture} {thing}" for texture, thing in product(TEXTURES, COLOURS + SHAPES)]
    placed = [f"{thing} on {background}" for thing, background in product(COLOURS + SHAPES, BACKGROUNDS)]
    strange = [f"{colour} {shape}" for colour, shape in zip(OTHER_COLOURS * 2, SHAPES * 2, strict=False)]
    strange += [f"{colour} {shape}" for colour, shape in zip(COLOURS * 2, OTHER_SHAPES, strict=False)]
    strange += [f"{texture} {shape}" for texture, shape in zip(OTHER_TEXTURES, SHAPES, strict=True)]
    others = OTHER_COLOURS + OTHER_SHAPES + OTHER_TEXTURES + OTHER_PLACES + EVERYDAY
    return (*ATTRIBUTES, *CLASSES, *pairs, *placed, *others, *dict.fromkeys(strange))


CONCEPTS = _list_concepts()
"""The default concept set: 565 names, of which about half are never rendered."""
