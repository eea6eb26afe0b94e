"""The three networks of MTCNN, stated in ONNX from the weights that the ``mtcnn`` package carries.

The package itself needs TensorFlow, so nothing of it is imported: only its three weight files are read.
Those are pickles, which can run code when loaded: a file is opened only if its hash is the one known here.
"""

import hashlib
import importlib.util
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import joblib
import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dfpipe.errors import UserError
from dfpipe.faces._onnx import ort, start_session

__all__ = ["NetName", "Nets", "Weights", "load_nets", "read_weights", "state_net"]

NetName = Literal["pnet", "rnet", "onet"]
Weights = Sequence[NDArray[np.float32]]

PACKAGE = "mtcnn==1.0.0"
SHA256: dict[NetName, str] = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
INPUT_PX: dict[NetName, int | None] = {"pnet": None, "rnet": 24, "onet": 48}
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class Nets:
    """The networks, ready to run on one core."""

    pnet: ort.InferenceSession
    """Proposals at every second pixel of pictures of any size: offsets (n, 4, h, w), score (n, h, w)."""
    rnet: ort.InferenceSession
    """Refinement of 24 x 24 crops: offsets (n, 4), score (n,)."""
    onet: ort.InferenceSession
    """Last word on 48 x 48 crops: offsets (n, 4), landmarks (n, 10), score (n,)."""
    weights_sha256: str
    """Hex digest over the three weight files."""


def load_nets() -> Nets:
    """Read the weights and start the three networks.

    Raises
    ------
    UserError
        The weights are not installed, or are not those known here.
    """
    digest = hashlib.sha256()
    sessions: dict[NetName, ort.InferenceSession] = {}
    for name in SHA256:
        content = _read_file(name)
        digest.update(content)
        sessions[name] = start_session(state_net(name, read_weights(name, content)).SerializeToString())
    return Nets(**sessions, weights_sha256=digest.hexdigest())


def read_weights(name: NetName, content: bytes) -> Weights:
    """Return a weight file's arrays, layer by layer, in the Keras axis order.

    Raises
    ------
    UserError
        The bytes are not those of the release known here; they are not opened then.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256[name]:
        raise UserError(
            f"the mtcnn weights {name}.lz4 have sha256 {found}, expected {SHA256[name]}; reinstall {PACKAGE}"
        )
    arrays: list[NDArray[np.float32]] = joblib.load(io.BytesIO(content))
    return arrays


def state_net(name: NetName, weights: Weights) -> ModelProto:
    """State one of the networks in ONNX.

    Every network takes RGB pictures of uint8, shape (n, height, width, 3), and scales them itself.
    """
    net = _Net(name, weights)
    match name:
        case "pnet":
            net.conv().prelu().pool(2, "SAME_UPPER").conv().prelu().conv().prelu()
            net.conv(output="offsets")
            net.conv().score()
        case "rnet":
            net.conv().prelu().pool(3, "SAME_UPPER").conv().prelu().pool(3, "VALID").conv().prelu()
            net.flatten().dense().prelu()
            net.dense(output="offsets")
            net.dense().score()
        case "onet":
            net.conv().prelu().pool(3, "SAME_UPPER").conv().prelu().pool(3, "VALID")
            net.conv().prelu().pool(2, "SAME_UPPER").conv().prelu()
            net.flatten().dense().prelu()
            net.dense(output="offsets")
            net.dense(output="landmarks")
            net.dense().score()
    return net.model()


class _Net:
    """Adds layer after layer, taking each one's weights from the list; a named output leaves the chain where it was."""

    def __init__(self, name: NetName, weights: Weights) -> None:
        self._name = name
        self._weights = iter(weights)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._outputs: list[str] = []
        self._last = "pictures"
        self._add("Cast", to=TensorProto.FLOAT)
        self._add("Transpose", perm=[0, 3, 1, 2])
        self._add("Sub", np.array(127.5, np.float32))
        self._add("Mul", np.array(1 / 128, np.float32))

    def conv(self, *, output: str | None = None) -> "_Net":
        kernel = next(self._weights).transpose(3, 2, 0, 1)
        return self._add("Conv", kernel, next(self._weights), output=output)

    def dense(self, *, output: str | None = None) -> "_Net":
        return self._add("Gemm", next(self._weights), next(self._weights), output=output)

    def prelu(self) -> "_Net":
        slope = next(self._weights)
        # Convolutions share a slope over the picture; Keras keeps it as (1, 1, channels).
        return self._add("PRelu", slope.reshape(-1, 1, 1) if slope.ndim == 3 else slope)

    def pool(self, size: int, padding: Literal["SAME_UPPER", "VALID"]) -> "_Net":
        return self._add("MaxPool", kernel_shape=[size, size], strides=[2, 2], auto_pad=padding)

    def flatten(self) -> "_Net":
        # The dense weights expect width, height, channel.
        return self._add("Transpose", perm=[0, 3, 2, 1])._add("Flatten")

    def score(self) -> None:
        self._add("Softmax", axis=1)._add("Gather", np.array(1, np.int64), output="score", axis=1)

    def model(self) -> ModelProto:
        unused = len(list(self._weights))
        if unused:
            raise ValueError(f"{self._name} got {unused} arrays of weights too many")
        side = INPUT_PX[self._name]
        shape = ["n", side or "height", side or "width", 3]
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("pictures", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in self._outputs],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _add(self, kind: str, *constants: NDArray[Any], output: str | None = None, **attributes: Any) -> "_Net":
        inputs = [self._last]
        for constant in constants:
            inputs.append(f"constant{len(self._constants)}")
            self._constants.append(numpy_helper.from_array(constant, inputs[-1]))
        result = output or f"node{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        if output is None:
            self._last = result
        else:
            self._outputs.append(output)
        return self


def _read_file(name: NetName) -> bytes:
    # Finding a top-level package does not run it; importing it would ask for TensorFlow.
    spec = importlib.util.find_spec("mtcnn")
    if spec is None or spec.origin is None:
        raise UserError(f"the mtcnn weights are not installed; install {PACKAGE}")
    path = Path(spec.origin).parent / "assets" / "weights" / f"{name}.lz4"
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the mtcnn weights {path}: {error.strerror}; reinstall {PACKAGE}") from error
