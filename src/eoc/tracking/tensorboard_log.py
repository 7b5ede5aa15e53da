"""TensorBoard as an alternative to W&B: event files in the run folder, which ``tensorboard --logdir runs`` shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only

from eoc.errors import RunFailure, text
from eoc.tracking.run_folder import make_writable

FOLDER = "tensorboard"


class TensorBoardLog(Logger):
    """Writes every row in one event, in single precision, which is TensorBoard's; the config as a text.

    Args:
        folder: the run folder.

    Raises:
        InvalidInput: if the folder cannot be written.
        RunFailure: if TensorBoard is not installed.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(text("folder", folder)) / FOLDER
        if getattr(rank_zero_only, "rank", 0) == 0:
            make_writable(self.folder.parent, "folder")
        self._config: dict[str, Any] = {}
        self._before: int | None = None
        self._last: int | None = None
        self._writer: Any = None
        try:
            import tensorboard  # noqa: F401
        except ImportError as error:
            raise RunFailure("TensorBoard is not installed: pip install tensorboard, or use logger=csv.") from error

    @property
    def name(self) -> str:
        """Lightning asks for one."""
        return "tensorboard"

    @property
    def version(self) -> None:
        """Lightning asks for one."""

    def resume(self, before: int) -> None:
        """Let the rows that are there count up to this step alone."""
        self._before = before

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Keep the config for the run's texts."""
        self._config = dict(params)

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write one row in one event."""
        self._last = step
        self._write([{"tag": name, "simple_value": value} for name, value in metrics.items()])

    def log_image(self, key: str, images: list[Any]) -> None:
        """Write figures (paths of PNG files) at the last step."""
        self._write([{"tag": key, "image": {"encoded_image_string": Path(image).read_bytes()}} for image in images])

    def save(self) -> None:
        """Wait until what was logged is in the file."""
        if self._writer is not None:
            self._writer.flush()

    def finalize(self, status: str) -> None:  # noqa: ARG002
        """Close the file."""
        if self._writer is not None:
            self._writer.close()

    def _write(self, values: list[dict[str, Any]]) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            # From there on, or from the start, what an earlier run left in the folder does not count.
            self._writer = SummaryWriter(str(self.folder), purge_step=self._before or 0)
            if self._config:
                # An indented text is shown as it is.
                self._writer.add_text("config", "\t" + OmegaConf.to_yaml(self._config).replace("\n", "\n\t"))
        self._writer.file_writer.add_summary(Summary(value=values), self._last)
