"""The error tree: one status each, and a trip between processes."""

import pickle

from cactus_core.errors import CactusError, StaleBase, error_for


def test_every_error_has_a_status_of_its_own():
    codes = [kind.code for kind in CactusError.__subclasses__()]
    assert len(set(codes)) == len(codes)


def test_an_error_comes_back_from_its_status_as_itself():
    for kind in CactusError.__subclasses__():
        assert type(error_for(kind.code, "say what to do")) is kind


def test_an_unknown_status_is_the_root():
    assert type(error_for("NOT_FOUND", "x")) is CactusError


def test_errors_survive_pickling():
    error = pickle.loads(pickle.dumps(StaleBase("draft from 12")))  # noqa: S301  # our own bytes
    assert (type(error), str(error)) == (StaleBase, "draft from 12")
