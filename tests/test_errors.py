"""The hierarchy: one root, and each error also the built-in exception that it is."""

from __future__ import annotations

import pickle

import pytest

from fti_qdrant import errors

MESSAGE = "no gallery at 'shop'; make one with: fti-ingest IMAGES --gallery shop"
BUILT_IN = {
    "BadImage": ValueError,
    "BadQuery": ValueError,
    "BadFilter": ValueError,
    "BadManifest": ValueError,
    "BadBenchmark": ValueError,
    "BadCalibration": ValueError,
    "BadPredictions": ValueError,
    "PromptTooLong": ValueError,
    "UnsupportedModel": ValueError,
    "ModelMismatch": ValueError,
    "CheckpointError": ValueError,
    "HubUnavailable": ValueError,
    "BadCollection": ValueError,
    "GalleryNotFound": LookupError,
    "UnknownImageId": LookupError,
    "GalleryUnavailable": RuntimeError,
    "Overloaded": RuntimeError,
    "GalleryExists": RuntimeError,
    "NotAGallery": RuntimeError,
    "OutputUnavailable": OSError,
    "Interrupted": Exception,
}
EXIT_CODES = {
    "GalleryUnavailable": 1,
    "GalleryExists": 1,
    "NotAGallery": 1,
    "HubUnavailable": 1,
    "OutputUnavailable": 1,
    "Overloaded": 1,
    "Interrupted": 130,
}
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type)]


def test_every_error_is_listed_here():
    assert {kind.__name__ for kind in KINDS} == {"FtiError", *BUILT_IN}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_message_is_what_was_said_also_after_pickling(kind):
    error = kind(MESSAGE)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert str(error) == str(copy) == MESSAGE
    assert isinstance(error, errors.FtiError)
    assert isinstance(error, BUILT_IN.get(kind.__name__, Exception))
    assert error.exit_code == EXIT_CODES.get(kind.__name__, 2)
