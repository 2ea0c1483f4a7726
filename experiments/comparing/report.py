"""A comparison as files: Markdown, CSV and a page, with their pictures."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from experiments.comparing import csv_file, markdown, page, wording
from experiments.comparing.comparison import Comparison
from experiments.comparing.pictures import gallery, rendering
from tron_jax import files
from tron_jax.errors import UserError

PAGE = "comparison.html"
PICTURES = "comparison_files"  # a folder beside the page
# What not every report has.
DIFFERENCES = "comparison_differences.csv"
CLAIMS = "comparison_claims.csv"
SLICES = "comparison_slices.csv"


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Writes all files, or none: a report that was there stays until all are on disk.

    Args:
      comparison: to be shown.
      folder: where the files go; made if need be.

    Returns:
      What was written: the page first, then ``comparison.md``, ``comparison.csv``, CSV
      of differences and slices where there are any, and the pictures of
      ``comparison.md``.

    Raises:
      UserError: where they cannot be written.
    """
    contents = _contents(wording.cleaned(comparison))
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    if not (folder / PICTURES).exists():
        missing.insert(0, folder / PICTURES)
    try:
        (folder / PICTURES).mkdir(parents=True, exist_ok=True)
        _replace({folder / name: content for name, content in contents.items()})
    except BaseException as error:
        for path in missing:
            with contextlib.suppress(OSError):
                path.rmdir()
        if isinstance(error, OSError):
            why = error.strerror or str(error)
            raise UserError(f"{folder}: cannot be written: {why}") from error
        raise
    _remove_old(folder, contents)
    return [folder / name for name in contents]


def _contents(comparison: Comparison) -> dict[str, bytes]:
    """Returns what each file holds, by its name."""
    drawn = gallery.of(comparison)
    remark = None if rendering.available() or not drawn else rendering.MISSING
    shown = [] if remark else drawn
    svgs = {picture: rendering.svg(picture) for picture in shown}
    pngs = {f"{PICTURES}/{picture.name}.png": picture for picture in shown}
    texts = {
        PAGE: page.render(comparison, svgs, remark),
        "comparison.md": markdown.render(comparison, pngs, remark),
        "comparison.csv": csv_file.figures(comparison),
    }
    if comparison.differences:
        texts[DIFFERENCES] = csv_file.differences(comparison)
    if comparison.claims:
        texts[CLAIMS] = csv_file.claims(comparison)
    if comparison.slices:
        texts[SLICES] = csv_file.slices(comparison)
    contents = {name: text.encode() for name, text in texts.items()}
    return contents | {path: rendering.png(picture) for path, picture in pngs.items()}


def _replace(contents: Mapping[Path, bytes]) -> None:
    """Gives files their new contents once all of those are on disk."""
    for path in contents:
        files.require_writable(path)
    with contextlib.ExitStack() as stack:
        for path, content in contents.items():
            new = stack.enter_context(files.replacing(path))
            new.write_bytes(content)
            files.sync(new)


def _remove_old(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Removes what an older report had and this one lacks."""
    there = [folder / name for name in (DIFFERENCES, CLAIMS, SLICES)]
    there += (folder / PICTURES).glob("*.png")
    for path in there:
        if str(path.relative_to(folder)) not in contents:
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where there are pictures in it
        (folder / PICTURES).rmdir()
