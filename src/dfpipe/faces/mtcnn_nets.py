"""The three networks of MTCNN, stated in ONNX from the weights that the ``mtcnn`` package carries.

The package itself needs TensorFlow, so nothing of it is imported: only its three weight files are read.
Those are pickles, which can run code when loaded: a file is opened only if its hash is the one known here.
"""

import hashlib
import importlib.util
import io
import math
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
Floats = NDArray[np.float64]
Padding = Literal["SAME_UPPER", "VALID"]

PACKAGE = "mtcnn==1.0.0"
SHA256: dict[NetName, str] = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
INPUT_PX: dict[NetName, int | None] = {"pnet": None, "rnet": 24, "onet": 48}
BLOCK_CHANNELS = 16
"""Channels that the runtime packs together with AVX-512; with AVX2 it packs 8, of which these are whole blocks too."""
OPSET = 17
IR_VERSION = 8


@dataclass(frozen=True, slots=True)
class Nets:
    """The networks, ready to run on one core."""

    pnet: ort.InferenceSession
    """Proposals at every second pixel of pictures of any size: found (n, 5, h, w)."""
    rnet: ort.InferenceSession
    """Refinement of 24 x 24 crops: found (n, 5)."""
    onet: ort.InferenceSession
    """Last word on 48 x 48 crops: found (n, 15)."""
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
    """State one of the networks in ONNX, in the form that runs fastest on a CPU.

    Every network takes ``pictures``: RGB of uint8, shape (n, height, width, 3), and scales them itself. It gives one
    output, ``found``. Along its second axis stand the four offsets, the ten landmarks if there are any, and the margin
    by which "face" wins over "no face", whose logistic function is the score.

    ONNX Runtime computes convolutions, pools and sums on blocks of eight channels, and leaves that layout for a PReLU.
    So activations are written with what it has there, which gives the same numbers up to rounding (see `_Net.bend`).

    Raises
    ------
    ValueError
        Weights are left over, or a slope stands where it cannot be written this way.
    """
    net = _Net(name, weights)
    match name:
        case "pnet":
            net.conv_pool_bend(2, "SAME_UPPER").conv().bend().conv().bend().conv_heads(2)
        case "rnet":
            net.conv_pool_bend(3, "SAME_UPPER").conv().bend().pool(3, "VALID").conv().bend()
            net.flatten_dense().prelu().dense_heads(2)
        case "onet":
            net.conv().bend().pool(3, "SAME_UPPER").conv().bend().pool(3, "VALID")
            net.conv().bend().pool(2, "SAME_UPPER").conv().bend()
            net.flatten_dense().prelu().dense_heads(3)
    return net.model()


class _Net:
    """Adds layer after layer, taking each one's weights from the list.

    Channels are filled up with zeros to whole blocks. A channel may carry the negative of its value; the next layer's
    weights make up for that.
    """

    def __init__(self, name: NetName, weights: Weights) -> None:
        self._name = name
        self._weights = iter(weights)
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._last = "pictures"
        self._width = 3
        """Channels that the last layer gives, with those that fill up its blocks."""
        self._signs = np.ones(3)
        """Of each channel that counts: -1 where it is negated."""
        # Turned around as bytes, which are a quarter of the floats.
        self._add("Transpose", perm=[0, 3, 1, 2])
        self._add("Cast", to=TensorProto.FLOAT)

    def conv(self) -> "_Net":
        kernel, bias = self._kernel()
        return self._conv(kernel, bias)

    def bend(self) -> "_Net":
        """PReLU, as ``a x + relu(b x)``, where both products are convolutions that see one channel of one pixel.

        With a slope s of at most 1 that is s x + relu((1 - s) x). With a steeper one it would need a minus in the
        middle, so the negative is given instead: -x + relu((1 - s) x).
        """
        slopes = self._take().ravel()
        straight, bent = _lines(slopes)
        self._signs = np.where(slopes > 1, -1.0, 1.0)
        width = self._width
        return self._straight_and_bent(
            _fill(straight, width).reshape(-1, 1, 1, 1), _fill(bent, width).reshape(-1, 1, 1, 1), groups=width
        )

    def conv_pool_bend(self, size: int, padding: Padding) -> "_Net":
        """Convolution, PReLU and pool, with the PReLU done last, on a quarter of the values.

        Of a slope that is not negative the greatest value lies where the greatest x does. Of a negative one it lies
        there or where s x is greatest, so that becomes a channel of its own.
        """
        kernel, bias = self._kernel()
        slopes = self._take().ravel().astype(np.float64)
        falling = np.flatnonzero(slopes < 0)
        self._conv(
            np.concatenate([kernel, kernel[falling] * slopes[falling, None, None, None]]),
            np.concatenate([bias, bias[falling] * slopes[falling]]),
        )
        self.pool(size, padding)
        straight, bent = (np.diag(line) for line in _lines(slopes))
        # The greater of m and n is m + relu(n - m).
        straight[falling, falling], bent[falling, falling] = 1, -1
        bent = np.hstack([bent, np.eye(len(slopes))[:, falling]])
        self._signs = np.where(slopes > 1, -1.0, 1.0)
        width = _whole_blocks(len(slopes))
        return self._straight_and_bent(
            _fill(straight, width, self._width)[:, :, None, None], _fill(bent, width, self._width)[:, :, None, None]
        )

    def pool(self, size: int, padding: Padding) -> "_Net":
        if (self._signs < 0).any():
            raise ValueError(f"{self._name} has a slope above 1 before a pool, where a negated channel is of no use")
        return self._add("MaxPool", kernel_shape=[size, size], strides=[2, 2], auto_pad=padding)

    def flatten_dense(self) -> "_Net":
        matrix, bias = self._take(), self._take()
        # The rows come in the order width, height, channel.
        channels = len(self._signs)
        side = math.isqrt(len(matrix) // channels)
        rows = matrix.reshape(side, side, channels, -1).transpose(2, 1, 0, 3) * self._signs[:, None, None, None]
        matrix = _fill(rows, self._width).reshape(-1, matrix.shape[1])
        return self._add("Flatten")._add("Gemm", matrix, bias)

    def prelu(self) -> "_Net":
        return self._add("PRelu", self._take())

    def conv_heads(self, num_heads: int) -> "_Net":
        kernels, biases = zip(*(self._kernel() for _ in range(num_heads)), strict=True)
        return self._add("Conv", _fill(_join(kernels), None, self._width), _join(biases))

    def dense_heads(self, num_heads: int) -> "_Net":
        matrices, biases = zip(*((self._take().T, self._take()) for _ in range(num_heads)), strict=True)
        return self._add("Gemm", _join(matrices).T, _join(biases))

    def model(self) -> ModelProto:
        unused = len(list(self._weights))
        if unused:
            raise ValueError(f"{self._name} got {unused} arrays of weights too many")
        self._nodes[-1].output[0] = "found"
        side = INPUT_PX[self._name]
        shape = ["n", side or "height", side or "width", 3]
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info("pictures", TensorProto.UINT8, shape)],
            [helper.make_tensor_value_info("found", TensorProto.FLOAT, None)],
            self._constants,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)

    def _take(self) -> Floats:
        return next(self._weights).astype(np.float64)

    def _kernel(self) -> tuple[Floats, Floats]:
        """Take a convolution's kernel, shape (outputs, inputs, height, width), and its bias."""
        kernel, bias = self._take().transpose(3, 2, 0, 1) * self._signs[:, None, None], self._take()
        if not self._constants:
            # The first one also brings the pixels to (x - 127.5) / 128; it pads none, so this is exact.
            kernel = kernel / 128
            bias = bias - 127.5 * kernel.sum(axis=(1, 2, 3))
        return kernel, bias

    def _conv(self, kernel: Floats, bias: Floats) -> "_Net":
        width = _whole_blocks(len(kernel))
        self._add("Conv", _fill(kernel, width, self._width), _fill(bias, width))
        self._width, self._signs = width, np.ones(len(bias))
        return self

    def _straight_and_bent(self, straight: Floats, bent: Floats, *, groups: int = 1) -> "_Net":
        before = self._last
        nothing = np.zeros(len(straight))
        self._add("Conv", bent, nothing, group=groups)._add("Relu")
        relu, self._last = self._last, before
        self._add("Conv", straight, nothing, group=groups)
        self._width = len(straight)
        return self._add("Add", relu)

    def _add(self, kind: str, *inputs: Floats | str, **attributes: Any) -> "_Net":
        names = [self._last, *(one if isinstance(one, str) else self._constant(one) for one in inputs)]
        self._last = f"node{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, names, [self._last], **attributes))
        return self

    def _constant(self, values: Floats) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name


def _lines(slopes: Floats) -> tuple[Floats, Floats]:
    """Return a and b for which ``a x + relu(b x)`` is the PReLU of x, or its negative where the slope is above 1."""
    return np.where(slopes > 1, -1, slopes), 1 - slopes


def _join(heads: Sequence[Floats]) -> Floats:
    """Put heads one below the other, the last of them, for "no face" and "face", as the difference of the two."""
    return np.concatenate([*heads[:-1], np.diff(heads[-1], axis=0)])


def _whole_blocks(channels: int) -> int:
    return -(-channels // BLOCK_CHANNELS) * BLOCK_CHANNELS


def _fill(values: Floats, *sizes: int | None) -> Floats:
    """Add zeros behind, along the first axes, up to these sizes; None leaves an axis alone."""
    gaps = [(0, size - have if size else 0) for size, have in zip(sizes, values.shape, strict=False)]
    return np.pad(values, gaps + [(0, 0)] * (values.ndim - len(gaps)))


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
