"""Which program computes the networks of a call, and how precisely.

Nothing that is slow is imported here: who only hands slides over needs neither torch nor a runtime.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal, get_args

from wsi_deform.errors import ModelError

RuntimeName = Literal["torch", "openvino", "onnx"]
AskedName = Literal["auto", "torch", "openvino", "onnx"]
Precision = Literal["float32", "int8"]

EXTRAS: dict[RuntimeName, tuple[str, ...]] = {
    "torch": (),
    "openvino": ("openvino",),
    "onnx": ("onnx", "onnxscript", "onnxruntime"),
}
"""Runtime -> modules that it needs; the extra of the package that installs them has the runtime's name."""
PACKAGES: dict[RuntimeName, str] = {"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}
"""Runtime -> the package whose version labels depend on."""
INT8: Literal["openvino"] = "openvino"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a user asked for; plain data that pickles.

    Attributes:
        name: "auto", or a runtime.
        precision: "float32"; "int8" for what ``wsi-deform quantise`` stored beside the model, which OpenVINO runs.
    """

    name: AskedName = "auto"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuse what does not exist.

        Raises:
            ModelError: An unknown name, or int8 of a runtime that has none.
        """
        for what, found, known in (
            ("runtime", self.name, get_args(AskedName)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if found not in known:
                raise ModelError(f"{what} {found!r}: needed one of {', '.join(known)}.")
        if self.precision == "int8" and self.name not in ("auto", INT8):
            raise ModelError(
                f"runtime {self.name} with precision int8: needed --runtime {INT8}, which runs what `wsi-deform "
                "quantise` stored, or --precision float32."
            )

    @property
    def is_cpu_alone(self) -> bool:
        """Whether what was asked for runs on no GPU."""
        return self.precision == "int8" or self.name in ("openvino", "onnx")


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """What computes the networks of a call; plain data that pickles.

    Attributes:
        name: The program.
        precision: Of its arithmetic.
        digest: Of the quantised networks, see ``quantised.Quantised``; empty for float32.
        is_auto: Whether the program chose it. Labels of any runtime in float32 will then do.
    """

    name: RuntimeName = "torch"
    precision: Precision = "float32"
    digest: str = ""
    is_auto: bool = False

    @property
    def text(self) -> str:
        """In words, as masks say it: "openvino int8"."""
        return f"{self.name} {self.precision}"

    def settings(self) -> dict[str, str] | None:
        """What the pixels of a mask depend on; None for PyTorch's float32, which is what nothing was said of before."""
        if self.name == "torch":
            return None
        known: dict[str, str] = {"runtime": self.name, "precision": self.precision}
        return known | {"networks": self.digest} if self.digest else known

    def others(self) -> tuple[Runtime, ...]:
        """Runtimes whose labels will do as well: where nobody asked for one, all in float32."""
        if not self.is_auto or self.precision != "float32":
            return ()
        return tuple(Runtime(name=name) for name in get_args(RuntimeName) if name != self.name)

    def versions(self) -> dict[str, str]:
        """Package -> version that labels depend on besides torch's, as far as it is installed."""
        found = package_version(self.name)
        return {} if self.name == "torch" or found is None else {PACKAGES[self.name]: found}


TORCH = Runtime()


def device_asked(asked: Asked, device: str) -> str:
    """The device that is meant: "auto" is the processor for a runtime that works on nothing else."""
    return "cpu" if device == "auto" and asked.is_cpu_alone else device


def chosen_runtime(
    asked: Asked,
    device: str,
    *,
    quantised: Callable[[], str],
    fastest: Callable[[], RuntimeName],
) -> Runtime:
    """What a call computes with.

    Args:
        asked: What the user asked for.
        device: Where it segments, a torch device.
        quantised: Returns the digest of the model's quantised networks, or raises ``ModelError``.
        fastest: Returns what was measured to be the fastest on this processor; torch where nobody measured.

    Returns:
        The runtime; its packages are installed.

    Raises:
        ModelError: A package is missing, the device is no processor, or there are no quantised networks.
    """
    name: RuntimeName
    if asked.precision == "int8":
        name = INT8
    elif asked.name == "auto":
        name = fastest() if device == "cpu" else "torch"
        if missing(name):
            # Measured once, and removed since.
            name = "torch"
    else:
        name = asked.name
    if name != "torch" and device != "cpu":
        raise ModelError(
            f"runtime {name} on device {device}: it works on the processor alone. Needed --device cpu, or "
            "--runtime torch."
        )
    require(name)
    digest = quantised() if asked.precision == "int8" else ""
    is_auto = asked.name == "auto" and asked.precision == "float32"
    return Runtime(name=name, precision=asked.precision, digest=digest, is_auto=is_auto)


def missing(name: RuntimeName) -> list[str]:
    """Modules that a runtime needs and that are not installed."""
    return [module for module in EXTRAS[name] if importlib.util.find_spec(module) is None]


def require(name: RuntimeName) -> None:
    """Refuse a runtime that is not installed.

    Raises:
        ModelError: It names the packages and the command that installs them.
    """
    if lacking := missing(name):
        raise ModelError(
            f"runtime {name}: {', '.join(lacking)} not installed. Needed {', '.join(EXTRAS[name])}. "
            f'Install them: pip install "wsi-deform[{name}]"; or use --runtime torch.'
        )


def package_version(name: RuntimeName) -> str | None:
    """Version of a runtime's package, without its build's name; None where it is not installed."""
    try:
        return version(PACKAGES[name]).partition("+")[0]
    except PackageNotFoundError:
        return None
