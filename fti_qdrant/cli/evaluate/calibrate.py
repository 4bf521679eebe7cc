"""``fti-eval calibrate``: the chance that a hit is right, stored with a gallery or in a file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import json_option
from fti_qdrant.cli.gallery_options import GivenPlace, place_options
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.model_options import backend_option
from fti_qdrant.cli.user_text import print_json, print_lines
from fti_qdrant.errors import BadCalibration, ModelMismatch

if TYPE_CHECKING:
    from fti_qdrant.calibration.own_queries import Calibrated
    from fti_qdrant.gallery.calibration import Calibration, ComposerCalibration
    from fti_qdrant.model.openvino_backend import Backend

EPILOG = """\b
Examples:
  fti-eval calibrate --pairs clicks.jsonl --gallery shop
  fti-eval calibrate --pairs clicks.jsonl --url http://localhost:6333 --collection shop
  fti-eval calibrate eval/emoji-heldout --gallery emoji
  fti-eval calibrate eval/circo-val --composer pdv,sum --out shop-calibration.json

\b
--pairs: one JSON object on each line, at least 30:
  {"image": ID or path, "text": "in red", "right": [ID, ...], "shown": [ID, ...]}
right: the answers, such as what a user clicked on. shown: what she saw; of this, what is not
right counts as wrong, and what was not shown as nothing. Without it, all else is wrong.

\b
From then on hits have a confidence, the chance that a hit among the first --depth ones of a
query is right; cutoff is a share of it, and min_confidence a bound. Searches that are open take
it up when they are opened again.
"""


@click.command("calibrate", epilog=EPILOG)
@click.argument("run", required=False, type=click.Path(path_type=Path))
@click.option(
    "--pairs", type=click.Path(path_type=Path), help="Your own queries and their answers, JSONL."
)
@place_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="Write a file; the gallery stays as it is."
)
@click.option(
    "--composer",
    "composers",
    help="Composers, comma-separated.  [default: all of the run; of --pairs the best one]",
)
@click.option(
    "--depth",
    type=click.IntRange(1, 50),
    default=10,
    show_default=True,
    help="How many hits of each query are judged.",
)
@click.option("--model", help="With --pairs.  [default: the model that the gallery was made with]")
@click.option(
    "--inverter",
    help="With --pairs: fti4cir, a folder, a checkpoint file or ORG/REPO on the hub.",
)
@backend_option
@json_option
@logging_options
@one_line_errors(after_stop="nothing was stored")
def calibrate_command(
    run: Path | None,
    pairs: Path | None,
    place: GivenPlace,
    out: Path | None,
    composers: str | None,
    depth: int,
    model: str | None,
    inverter: str | None,
    backend: Backend,
    as_json: bool,
) -> None:
    """Fit the chance that a hit is right, on RUN (a folder of fti-eval run) or on your queries."""
    from fti_qdrant.calibration.own_queries import Calibrated
    from fti_qdrant.cli.extras import need
    from fti_qdrant.gallery.calibration import Calibration

    need("scipy", "eval")
    if (run is None) == (pairs is None):
        raise click.UsageError("pass either RUN, a folder of fti-eval run, or --pairs FILE")
    names = _names(composers)
    if pairs is not None:
        opening = {"model": model, "inverter": inverter, "backend": backend}
        done = _from_pairs(pairs, place, names, depth, opening, store=out is None)
    else:
        assert run is not None
        if model or inverter:
            raise click.UsageError("--model and --inverter are for --pairs; a run has its own")
        from fti_qdrant.benchmarks.judged_run import fit_run

        _, found = fit_run(run, names, depth)
        if out is None:
            calibration = _store(found.fitted, place)
        else:
            calibration = Calibration().updated(found.fitted)
        done = Calibrated(calibration, found.fitted, missing=found.missing)
    if out is not None:
        done.calibration.write(out)
    _print(done, where=f"wrote {out}" if out else "stored in the gallery", as_json=as_json)


def _names(composers: str | None) -> list[str] | None:
    """Raises BadQuery for an unknown composer."""
    from fti_qdrant.composers.registry import find_composer

    if composers is None:
        return None
    names = [one.strip() for one in composers.split(",") if one.strip()]
    if not names:
        raise click.UsageError(f"--composer {composers!r} names no composer")
    return [find_composer(name).name for name in names]


def _from_pairs(
    pairs: Path,
    place: GivenPlace,
    names: list[str] | None,
    depth: int,
    opening: dict[str, Any],
    *,
    store: bool,
) -> Calibrated:
    """The file is read before the model is loaded, which takes seconds."""
    from fti_qdrant.calibration.query_file import read_queries

    location = place.location()
    if not (held := read_queries(pairs)).queries:
        first = f"; {held.rejected[0]}" if held.rejected else ""
        raise BadCalibration(f"{str(pairs)!r} has no query{first}")
    gallery = location.open()
    from fti_qdrant.calibration.own_queries import calibrate
    from fti_qdrant.search import ComposedSearch

    with ComposedSearch.over(gallery, **opening) as search:
        return calibrate(search, pairs, composers=names or (None,), depth=depth, store=store)


def _store(fitted: Sequence[ComposerCalibration], place: GivenPlace) -> Calibration:
    """Adds maps to those of a gallery. Raises ModelMismatch where another model made it."""
    made_by = fitted[0].maker.fingerprint
    with closing(place.location().open()) as gallery:
        if not gallery.spec.fingerprint.matches(made_by):
            raise ModelMismatch(
                f"gallery {gallery.name} was made with {gallery.spec.fingerprint}, and the run "
                f"with {made_by}; scores of two models cannot be compared. Run the benchmark with "
                "the gallery's model"
            )
        calibration = gallery.calibration.updated(fitted)
        gallery.store_calibration(calibration)
    return calibration


def _print(done: Calibrated, where: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "fitted": [one.model_dump(mode="json") for one in done.fitted],
                "not_calibrated": done.missing,
                "rejected": [{"line": one.line, "reason": one.reason} for one in done.rejected],
            }
        )
        return
    from fti_qdrant.cli.console import print_tables
    from fti_qdrant.cli.evaluate.tables import calibration_table

    print_tables([calibration_table(done.fitted)])
    for label, why in done.missing.items():
        print_lines(f"{label}: not calibrated: {why}")
    if done.rejected:
        print_lines(f"{len(done.rejected)} queries were left out:", *done.rejected)
    print_lines(where)
