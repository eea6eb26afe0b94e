"""The network of retinaface (MobileNetV2), read from TensorFlow's frozen graph and stated in ONNX.

A frozen graph is a list of nodes with their weights, written down in protocol buffers. The network in it is built of a
dozen kinds of nodes, and ONNX has all of them, so TensorFlow is not needed, not even once. What follows the network in
that graph (anchors, decoding, suppression) is left out: `dfpipe.faces.anchors` does it, for whole batches.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

__all__ = ["HEADS", "state_net"]

PREFIX = "RetinaFaceModel/"
HEADS: Mapping[str, str] = {
    "class8": "ClassHead_0/conv2d_6/BiasAdd",
    "class16": "ClassHead_1/conv2d_7/BiasAdd",
    "class32": "ClassHead_2/conv2d_8/BiasAdd",
    "box8": "BboxHead_0/conv2d/BiasAdd",
    "box16": "BboxHead_1/conv2d_1/BiasAdd",
    "box32": "BboxHead_2/conv2d_2/BiasAdd",
    "landmark8": "LandmarkHead_0/conv2d_3/BiasAdd",
    "landmark16": "LandmarkHead_1/conv2d_4/BiasAdd",
    "landmark32": "LandmarkHead_2/conv2d_5/BiasAdd",
}
"""The outputs, named by kind and stride in pixels, and the nodes that they are."""
# The input's scaling to -1 to 1 ends here; it is stated anew, for pictures of uint8.
SCALED = "tf_op_layer_sub/sub"
OPSET = 17
IR_VERSION = 8

DTYPES = {1: np.dtype("<f4"), 3: np.dtype("<i4")}


def state_net(frozen_graph: bytes) -> ModelProto:
    """State the network of the frozen graph in ONNX.

    It takes ``pictures``, RGB of uint8, shape (n, height, width, 3), with sides that are multiples of 32. Each of its
    outputs (`HEADS`) has the shape (n, height / stride, width / stride, channels), for two anchors in every cell:
    4 channels of logits (not a face, a face, for one anchor and then the other), 8 of boxes, 20 of landmarks.

    Parameters
    ----------
    frozen_graph
        Trusted by its hash: what is not as expected raises ``KeyError`` or ``ValueError``.
    """
    net = _Net(_read_nodes(frozen_graph))
    graph = helper.make_graph(
        net.state(),
        "retinaface",
        [helper.make_tensor_value_info("pictures", TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in HEADS],
        net.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


@dataclass(frozen=True, slots=True)
class _Node:
    kind: str
    inputs: Sequence[str]
    attributes: Mapping[str, bytes]


class _Net:
    """Walks from the heads back to the input and states every node on the way, channels before rows and columns."""

    def __init__(self, nodes: Mapping[str, _Node]) -> None:
        self._nodes = nodes
        self._stated: dict[str, NodeProto] = {}
        self.constants: list[TensorProto] = []

    def state(self) -> list[NodeProto]:
        scaled = PREFIX + SCALED
        factor, shift = self._keep("scaling", [np.array(1 / 127.5, np.float32), np.array(-1, np.float32)])
        self._stated = {
            "planes": helper.make_node("Transpose", ["pictures"], ["planes"], perm=[0, 3, 1, 2]),
            "floats": helper.make_node("Cast", ["planes"], ["floats"], to=TensorProto.FLOAT),
            "shrunk": helper.make_node("Mul", ["floats", factor], ["shrunk"]),
            scaled: helper.make_node("Add", ["shrunk", shift], [scaled]),
        }
        for output, head in HEADS.items():
            self._walk(PREFIX + head)
            self._stated[output] = helper.make_node("Transpose", [PREFIX + head], [output], perm=[0, 2, 3, 1])
        return list(self._stated.values())

    def _walk(self, name: str) -> None:  # noqa: PLR0912  # a case for each kind of node
        if name in self._stated:
            return
        node = self._nodes[name]
        first, *others = node.inputs
        pictures: list[str] = [first]
        constants: list[NDArray[Any]] = []
        attributes: dict[str, Any] = {}
        match node.kind:
            case "Conv2D" | "DepthwiseConv2dNative":
                kernel = self._value(others[0])
                # TensorFlow has a depthwise kernel's channels where others have what goes in.
                constants = [kernel.transpose((3, 2, 0, 1) if node.kind == "Conv2D" else (2, 3, 0, 1))]
                kind, attributes = "Conv", _sliding(node)
                if node.kind != "Conv2D":
                    attributes["group"] = kernel.shape[2]
                if self._nodes[first].kind == "Pad":
                    # Left apart, it would keep ONNX Runtime from one memory layout throughout; a third of the time.
                    (first, pads) = self._nodes[first].inputs
                    pictures, attributes["auto_pad"] = [first], "NOTSET"
                    attributes["pads"] = self._value(pads)[1:3].T.ravel().tolist()
            case "BiasAdd":
                kind, constants = "Add", [self._value(others[0]).reshape(-1, 1, 1)]
            case "FusedBatchNormV3":
                kind, attributes = "BatchNormalization", {"epsilon": _float(node.attributes["epsilon"])}
                constants = [self._value(other) for other in others]
            case "Relu6":
                kind, constants = "Clip", [np.array(0, np.float32), np.array(6, np.float32)]
            case "LeakyRelu":
                kind, attributes = "LeakyRelu", {"alpha": _float(node.attributes["alpha"])}
            case "Relu" | "Identity":
                kind = node.kind
            case "AddV2":
                kind, pictures = "Add", [first, *others]
            case "ConcatV2":
                kind, pictures, attributes = "Concat", [first, *others[:-1]], {"axis": 1}
            case "ResizeNearestNeighbor":
                # Each level of the pyramid is twice the next; ONNX can say that without naming a size.
                kind, attributes = "Resize", {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                pictures, constants = [first, ""], [np.array([1, 1, 2, 2], np.float32)]
            case _:
                raise ValueError(f"{name} is a {node.kind}, expected a kind that this network is built of")
        for picture in pictures:
            if picture:
                self._walk(picture)
        inputs = [*pictures, *self._keep(name, constants)]
        self._stated[name] = helper.make_node(kind, inputs, [name], **attributes)

    def _keep(self, name: str, values: Sequence[NDArray[Any]]) -> list[str]:
        names = [f"{name}/constant{number}" for number in range(len(values))]
        self.constants += map(numpy_helper.from_array, values, names)
        return names

    def _value(self, name: str) -> NDArray[Any]:
        node = self._nodes[name]
        return self._value(node.inputs[0]) if node.kind == "Identity" else _tensor(node.attributes["value"])


def _sliding(node: _Node) -> dict[str, Any]:
    # Of batch, rows, columns and channels, packed one byte each, being small.
    strides = list(dict(_fields(dict(_fields(node.attributes["strides"]))[1]))[3])
    padding = dict(_fields(node.attributes["padding"]))[2]
    return {"strides": strides[1:3], "auto_pad": {b"SAME": "SAME_UPPER", b"VALID": "VALID"}[padding]}


# The numbers of fields are those of TensorFlow's public graph.proto, node_def.proto, attr_value.proto, tensor.proto and
# tensor_shape.proto.


def _read_nodes(graph: bytes) -> dict[str, _Node]:
    nodes = {}
    for body in (value for number, value in _fields(graph) if number == 1):
        fields = list(_fields(body))
        name, kind = (next(value.decode() for number, value in fields if number == wanted) for wanted in (1, 2))
        inputs = [value.decode() for number, value in fields if number == 3]
        pairs = [dict(_fields(value)) for number, value in fields if number == 5]
        nodes[name] = _Node(kind, inputs, {pair[1].decode(): pair[2] for pair in pairs})
    return nodes


def _tensor(attribute: bytes) -> NDArray[Any]:
    tensor = dict(_fields(dict(_fields(attribute))[8]))
    sides = [dict(_fields(side))[1] for number, side in _fields(tensor[2]) if number == 2]
    return np.frombuffer(tensor[4], DTYPES[tensor[1]]).reshape(sides)


def _float(attribute: bytes) -> float:
    value: float = struct.unpack("<f", dict(_fields(attribute))[4])[0]
    return value


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield the fields of a message: whole numbers as int, everything else as bytes."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        field, wire = divmod(number(), 8)
        if wire == 0:
            yield field, number()
            continue
        size = {1: 8, 5: 4}.get(wire) or number()
        yield field, message[at : at + size]
        at += size
