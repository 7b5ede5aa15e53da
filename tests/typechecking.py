"""What the annotations of `eoc` are held to in a test run."""

from beartype import BeartypeConf, FrozenDict, beartype

# Tensors, their shapes and dtypes are checked. Plain numbers and words are left to the package's own checks: they come
# from users, and the sentence with which `eoc.errors` refuses a wrong one is under test too.
shapes = beartype(conf=BeartypeConf(hint_overrides=FrozenDict(dict.fromkeys((bool, int, float, str), object))))
