"""The colours of all pictures of trains and policies."""

import colorsys

Colour = tuple[int, int, int]

BACKGROUND = (250, 249, 246)
INK = (40, 42, 46)
RUNNING_COLOUR = (70, 130, 180)
STANDING_COLOUR = (120, 190, 240)
MALFUNCTION_COLOUR = (255, 176, 0)
DEADLOCK_COLOUR = (200, 16, 46)
DONE_COLOUR = (150, 150, 146)
LATE_COLOUR = (224, 0, 122)

_OF_POLICIES = (
    (68, 114, 168),
    (216, 120, 30),
    (46, 125, 79),
    (123, 79, 163),
    (140, 90, 60),
    (20, 150, 160),
    (150, 150, 40),
    (90, 100, 110),
)


def train_colour(handle: int) -> Colour:
    """Colours that stay apart for neighbouring handles: the golden ratio spreads hues, three shades do the rest."""
    hue = (0.58 + handle * 0.61803398875) % 1.0
    saturation, value = ((0.62, 0.80), (0.75, 0.62), (0.45, 0.88))[handle % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


def policy_colour(policy: int) -> Colour:
    """The colour of a policy in films and curves; it comes again after eight policies."""
    return _OF_POLICIES[policy % len(_OF_POLICIES)]


def as_hex(colour: Colour) -> str:
    """The colour as matplotlib takes it."""
    red, green, blue = colour
    return f"#{red:02x}{green:02x}{blue:02x}"
