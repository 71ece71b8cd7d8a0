"""Every exception that wsi-deform raises on purpose.

A message says what was found, what was needed and what to do, and names the file and the value; the passwords and
signatures of URLs are left out of it.
"""

from __future__ import annotations

from wsi_deform.redact import redacted


class WsiDeformError(Exception):
    """The base of all errors that a user can mend; the command line prints these without a traceback."""

    def __init__(self, *args: object) -> None:
        """Keep the message, whoever's text it quotes, without the secrets of URLs."""
        super().__init__(*(redacted(part) if isinstance(part, str) else part for part in args))


class SlideError(WsiDeformError):
    """A slide cannot be opened, read or placed (missing levels, missing mpp, truncated file)."""


class NotThisReaderError(SlideError):
    """A reader does not know the container or its compression: another one may. Every other refusal is final."""


class AnnotationError(WsiDeformError):
    """A label mask or class table cannot be used (wrong size, unknown value, wrong channel)."""


class ManifestError(WsiDeformError):
    """A manifest has one or more problems; the message lists all of them."""


class ConfigError(WsiDeformError):
    """A configuration says something that the program does not understand."""


class ModelError(WsiDeformError):
    """A run folder, checkpoint or network name cannot be used."""


class MaskError(WsiDeformError):
    """A mask cannot be written or does not fit its slide."""


class PluginError(WsiDeformError):
    """Something cannot be added under its name (another has it), or a plug-in's part is not as needed."""


class ShapeError(WsiDeformError):
    """An array or tensor handed to a public function has the wrong shape, dtype or range."""


class TrainingError(WsiDeformError):
    """Training cannot start or go on (no training field, loss not finite, run of another config)."""


NOT_ONE_IMAGE = (
    "sampling.geometry blocks: {name} labels a field out of several looks, not one image such as a patch. Needed "
    "--method sampled, or a model with sampling.geometry: warp for `segment --method patches`."
)
"""Of a ``ModelError`` that a process without torch raises too."""
