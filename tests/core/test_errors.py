"""The error tree: every class says a sentence with its facts, and is the same class again in another process."""

import string

import pytest

from dragonfly import errors
from dragonfly.errors import BY_CODE, DragonflyError, Fault
from dragonfly.wire.status import ERROR_KEY, grpc_status, restored_error

EVERY_CLASS = pytest.mark.parametrize("kind", BY_CODE.values(), ids=BY_CODE.keys())


def facts_of(kind):
    """A value for every fact that the class's sentence names."""
    return {name: f"<{name}>" for _, name, _, _ in string.Formatter().parse(kind.__doc__) if name}


@EVERY_CLASS
def test_sentence_holds_every_fact(kind):
    facts = facts_of(kind)
    error = kind(**facts)
    assert error.facts == facts
    assert all(value in str(error) for value in facts.values())
    assert "{" not in str(error)


@EVERY_CLASS
def test_sentence_is_one_line_without_a_full_stop(kind):
    sentence = str(kind(**facts_of(kind)))
    assert sentence
    assert "\n" not in sentence
    assert kind is DragonflyError or not sentence.endswith(".")


@EVERY_CLASS
def test_error_is_restored_as_the_same_class_with_the_same_sentence(kind):
    error = kind(**facts_of(kind))
    status = grpc_status(error)
    again = restored_error(status.code, status.message, status.trailing_metadata)
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.code == error.code == dict(status.trailing_metadata)[ERROR_KEY]


@EVERY_CLASS
def test_restored_error_keeps_what_is_a_fact_of_its_class(kind):
    error = kind.restored("a sentence")
    assert str(error) == "a sentence"
    assert error.facts == {}
    assert (error.fault, error.retryable) == (kind.fault, kind.retryable)


@EVERY_CLASS
def test_class_stands_in_the_tree_of_the_docstring(kind):
    assert kind.__name__ in errors.__doc__


def test_fact_that_is_missing_is_noticed_at_once():
    with pytest.raises(KeyError):
        errors.SourceNotFound(url="https://example.com")


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (errors.InvalidUrl, Fault.CALLER),
        (errors.SourceNotFound, Fault.SOURCE),
        (errors.ParentTimedOut, Fault.PEER),
        (errors.DiskFull, Fault.OURS),
        (errors.OutputExists, Fault.CALLER),
        (errors.ContentDigestMismatch, Fault.SOURCE),
    ],
)
def test_error_says_who_has_to_act(kind, fault):
    assert kind.fault is fault
