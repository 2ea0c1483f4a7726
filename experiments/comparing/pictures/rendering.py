"""Pictures as files: SVG for a page that may be light or dark, PNG for elsewhere."""

from __future__ import annotations

import io
import re
import warnings
from typing import Any
from xml.etree import ElementTree

from experiments.comparing.pictures.inks import LIGHT
from experiments.comparing.pictures.picture import WIDTH, Picture

MISSING = "No pictures: matplotlib is not installed (pip install 'tron-jax[plots]')."
SETTINGS = {
    "font.size": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.color": LIGHT["ink"],
    "axes.labelcolor": LIGHT["soft"],
    "axes.edgecolor": LIGHT["soft"],
    "xtick.color": LIGHT["soft"],
    "ytick.color": LIGHT["soft"],
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "text.parse_math": False,  # a name may hold dollars
    "svg.fonttype": "none",
}
SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
VARIABLES = {light: f"var(--{name})" for name, light in LIGHT.items()}


def available() -> bool:
    """Whether matplotlib is there to draw."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        return False
    return True


def png(picture: Picture) -> bytes:
    """Returns a picture on white, as a file; in few colours, which makes it small."""
    from PIL import Image  # of which matplotlib makes use itself

    drawn = _saved(picture, format="png", dpi=130, facecolor="white")
    held = io.BytesIO()
    with Image.open(io.BytesIO(drawn)) as image:
        image.convert("RGB").quantize(64).save(held, format="png", optimize=True)
    return held.getvalue()


def svg(picture: Picture) -> str:
    """Returns a picture as an element of a page, in the inks of the page's style."""
    text = _saved(
        picture,
        format="svg",
        transparent=True,
        metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
    )
    root = ElementTree.fromstring(text)
    used = _references(root)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        element.attrib = {
            key: _attribute(key, value, picture.name)
            for key, value in element.attrib.items()
            if key != "id" or value in used
        }
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("aria-hidden", "true")
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return ElementTree.tostring(root, encoding="unicode")


def _saved(picture: Picture, **how: Any) -> bytes:
    """Draws a picture and returns it in a format of matplotlib's."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    held = io.BytesIO()
    salt = {"svg.hashsalt": picture.name}  # the same names in each rendering
    with matplotlib.rc_context(SETTINGS | salt), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that its font lacks
        figure = Figure(figsize=(WIDTH, picture.height), layout="constrained")
        FigureCanvasAgg(figure)
        picture.draw(figure)
        figure.savefig(held, **how)
    return held.getvalue()


def _references(root: ElementTree.Element) -> set[str]:
    """Returns the ids that anything in a picture refers to."""
    values = [value for e in root.iter() for k, value in e.attrib.items() if k != "id"]
    return {name for value in values for name in re.findall(r"#([\w-]+)", value)}


def _attribute(key: str, value: str, picture: str) -> str:
    """Returns an attribute as the page has it: its own ids, its inks and its font."""
    if key == "id":
        return f"{picture}-{value}"
    if key == f"{{{XLINK}}}href":
        return value.replace("#", f"#{picture}-")
    if key == "style":
        value = re.sub(r"font: (?:\w+ )*?([\d.]+px)[^;]*", r"font-size: \1", value)
        value = re.sub(r"font-family: [^;]*(; )?", "", value)
        return re.sub(r"#[0-9a-f]{6}", lambda m: VARIABLES.get(m[0], m[0]), value)
    if key == "clip-path":
        return value.replace("url(#", f"url(#{picture}-")
    return re.sub(r"(\.\d\d)\d+", r"\1", value)  # hundredths of a point will do
