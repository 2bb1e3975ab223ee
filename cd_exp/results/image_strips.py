"""Thumbnails of the images that excite a unit most, and images as the bytes of a file."""

import base64
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageOps

from cd_exp.records import Probe

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def make_thumbnail(probe: Probe, index: int, size: int) -> Image.Image:
    """The middle square of a probe image, `size` pixels wide."""
    image = probe[index]
    # Blown up, a tiny image keeps its pixels; a large one is shrunk in two steps, the first by averaging.
    method = Image.Resampling.NEAREST if max(image.size) < size else Image.Resampling.BICUBIC
    if min(image.size) > 4 * size:
        image = ImageOps.contain(image, (2 * size, 2 * size), Image.Resampling.BOX)
    return ImageOps.fit(image, (size, size), method)


def make_strip(probe: Probe, indices: Sequence[int], size: int, *, gap: int) -> Image.Image:
    """Thumbnails side by side on white."""
    canvas = Image.new("RGB", (len(indices) * (size + gap) - gap, size), "white")
    for column, index in enumerate(indices):
        canvas.paste(make_thumbnail(probe, index, size), (column * (size + gap), 0))
    return canvas


def render_figure(figure: "Figure") -> Image.Image:
    """A matplotlib figure as an image, without pyplot or a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes; the page and labels.csv have it right.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def render_vectors(figure: "Figure") -> dict[str, bytes]:
    """A matplotlib figure as PDF and SVG files, the same bytes for the same figure; text stays text."""
    from matplotlib import rc_context

    settings: Any = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "cd_exp"}
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    files = {}
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font")
        for kind, metadata in dates.items():
            content = io.BytesIO()
            figure.savefig(content, format=kind, metadata=metadata)
            files[kind] = content.getvalue()
    return files


def encode_png(image: Image.Image) -> bytes:
    """The image as a PNG file; little effort on compression, which halves the time for a tenth of the size."""
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=3)
    return content.getvalue()


def encode_jpeg(image: Image.Image, *, quality: int = 85) -> bytes:
    """The image as a JPEG file: a fifth of the size of a PNG for photographs.

    Args:
        image: RGB.
        quality: of Pillow, to 95; sheets of thumbnails take 78, for a quarter less.
    """
    content = io.BytesIO()
    image.save(content, "JPEG", quality=quality)
    return content.getvalue()


def as_data_uri(content: bytes, kind: str) -> str:
    """A file as the address of an embedded image."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
