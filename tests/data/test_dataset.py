from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import eoc.data
from eoc.data import Dataset

CONFIGS = Path(__file__).parents[2] / "conf" / "dataset"


def small(**changed) -> Dataset:
    values = {
        "name": "digits",
        "train_inputs": torch.rand(5, 3),
        "train_targets": torch.rand(5, 2),
        "train_labels": torch.zeros(5, dtype=torch.int64),
        "test_inputs": torch.rand(4, 3),
        "test_targets": torch.rand(4, 2),
        "test_labels": torch.ones(4, dtype=torch.int64),
        "batch_size": 2,
    }
    return Dataset(**{**values, **changed})


def test_sizes_and_immutability():
    data = small()
    assert (data.classes, data.dim) == (2, 3)
    with pytest.raises(AttributeError):
        data.name = "other"


@pytest.mark.parametrize("field", ["train_labels", "test_targets", "test_inputs"])
def test_shapes_must_agree(field):
    good = getattr(small(), field)
    wrong = good[:, :1] if good.ndim == 2 else good[:3]
    with pytest.raises(Exception, match=field):
        small(**{field: wrong})


def test_to_another_precision_keeps_labels_and_settings():
    data = small()
    double = data.to("cpu", torch.float64)
    assert torch.equal(double.train_inputs, data.train_inputs.double())
    assert double.test_targets.dtype == torch.float64
    assert double.test_labels.dtype == torch.int64
    assert (double.name, double.batch_size) == ("digits", 2)
    assert data.to("cpu").train_inputs.data_ptr() == data.train_inputs.data_ptr()
    assert data.to("meta").train_labels.device.type == "meta"


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10", "images"])
def test_config_names_every_argument_and_no_other(name):
    import inspect

    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert config.pop("_target_") == f"eoc.data.{name}"
    assert set(config) == set(inspect.signature(getattr(eoc.data, name)).parameters)
    assert (config["subset_seed"], config["target"], config["batch_size"]) == (0, "one_hot", None)


def test_digits_config_loads():
    config = yaml.safe_load((CONFIGS / "digits.yaml").read_text())
    del config["_target_"]
    data = eoc.data.digits(**config)
    assert (len(data.train_labels), len(data.test_labels)) == (1000, 797)
