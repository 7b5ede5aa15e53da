from __future__ import annotations

import pickle

import numpy as np
import pytest

from eoc.errors import InvalidInput, boolean, choice, integer, real, text, under, unknown


def sentence(call) -> str:
    with pytest.raises(InvalidInput) as caught:
        call()
    return str(caught.value)


def test_says_key_value_and_rule_in_one_sentence():
    assert str(InvalidInput("depth", 1, "it must be at least 2")) == "depth=1 is not possible: it must be at least 2."
    assert str(InvalidInput("name", "x", "rule")) == "name=x is not possible: rule."  # as typed, without quotes


def test_survives_pickling():
    # Sweeps run jobs in other processes; an exception that cannot be pickled kills joblib's pool.
    copy = pickle.loads(pickle.dumps(InvalidInput("depth", 1, "rule").prefixed("model")))
    assert (copy.key, copy.value, copy.rule) == ("model.depth", 1, "rule")


def test_under_adds_the_group_and_keeps_the_cause():
    with pytest.raises(InvalidInput) as caught, under("experiment"), under("model"):
        integer("depth", 1, minimum=2)
    assert caught.value.key == "experiment.model.depth"
    assert caught.value.__cause__.key == "model.depth"


def test_under_lets_other_errors_pass():
    with pytest.raises(KeyError), under("model"):
        raise KeyError("depth")


@pytest.mark.parametrize("value", [2, 3, 10, np.int64(4)])
def test_integer_accepts(value):
    result = integer("n", value, minimum=2, maximum=10)
    assert result == value
    assert type(result) is int


@pytest.mark.parametrize("value", [1, 11, 2.5, "2", None, True, float("nan"), float("inf"), 1e300])
def test_integer_refuses(value):
    said = sentence(lambda: integer("n", value, minimum=2, maximum=10))
    shown = "null" if value is None else "true" if value is True else value
    quoted = ", and no text in quotes" if value == "2" else ""
    assert said == f"n={shown} is not possible: it must be an integer of at least 2 and of at most 10{quoted}."


def test_an_integer_that_was_read_as_a_real_is_written_out():
    said = sentence(lambda: integer("n", 1e9, minimum=2))
    assert said == (
        "n=1000000000.0 is not possible: it must be an integer of at least 2, written without point or exponent: "
        "1000000000."
    )


def test_bounds_are_shown_in_full():
    assert "of at most 1281167." in sentence(lambda: integer("n_train", 1281168, maximum=1281167))
    assert "of at most 0.1." in sentence(lambda: real("x", 1, maximum=0.1))


@pytest.mark.parametrize("value", [0.5, 1, np.float64(0.25), 2.0])
def test_real_accepts(value):
    result = real("x", value, maximum=2, above=0)
    assert result == value
    assert type(result) is float


@pytest.mark.parametrize("value", [0, 0.0, -1, 2.001, float("inf"), float("nan"), "1", None, False])
def test_real_refuses(value):
    said = sentence(lambda: real("x", value, maximum=2, above=0))
    quoted = ", and no text in quotes" if value == "1" else ""
    assert said.endswith(f"is not possible: it must be a finite number above 0 and of at most 2{quoted}.")


def test_real_bounds_are_closed_or_open_as_named():
    assert real("x", 0, minimum=0) == 0
    assert real("x", 1, maximum=1) == 1
    sentence(lambda: real("x", 0, above=0))
    sentence(lambda: real("x", 1, below=1))


def test_boolean():
    assert boolean("flag", True) is True
    assert boolean("flag", False) is False
    for value in (0, 1, "true", None):
        assert "it must be true or false" in sentence(lambda value=value: boolean("flag", value))


def test_choice():
    assert choice("kind", "b", ("a", "b")) == "b"
    assert sentence(lambda: choice("kind", "c", {"a": 1, "b": 2})) == "kind=c is not possible: it must be one of a, b."
    assert "one of a, b" in sentence(lambda: choice("kind", ["a"], ("a", "b")))  # unhashable, still a sentence


@pytest.mark.parametrize("value", [None, "", 3, ["a"]])
def test_text_refuses(value):
    assert sentence(lambda: text("name", value)).endswith("is not possible: it must be a text that is not empty.")


def test_text_accepts():
    assert text("name", "a run") == "a run"


def test_an_unknown_key_is_told_what_is_there_and_what_was_probably_meant():
    said = str(unknown("model.dept", 3, ["width", "depth"]))
    assert said == "model.dept=3 is not possible: there is no key model.dept; model has width, depth (perhaps depth?)."
    assert str(unknown("foo", 1, [])) == "foo=1 is not possible: there is no key foo; the config has no keys."
    assert str(unknown("a.hidden", 1, ["x"], ["hiding"])).endswith("a has x (perhaps hiding?).")


def test_a_choice_suggests_only_what_is_close():
    assert sentence(lambda: choice("kind", "rellu", ["relu", "abs"])).endswith("one of relu, abs (perhaps relu?).")
    assert sentence(lambda: choice("kind", "banana", ["relu", "abs"])).endswith("one of relu, abs.")


def test_an_empty_value_is_seen():
    assert sentence(lambda: integer("n", "")).startswith("n='' is not possible")
