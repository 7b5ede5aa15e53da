"""A laboratory for deep MLPs at the Edge of Chaos.

Rooms, from the ground up (each imports only from those before it):
``model`` (widths, scaling rules, the MLP), ``dynamics`` (curvature, update cosines, feature change),
``data`` and ``schedule``, ``training`` and ``tracking`` (Lightning, W&B), ``analysis`` (figures and tables).
The first three floors are plain torch and work in anyone's training loop.
"""

__version__ = "0.1.0"
