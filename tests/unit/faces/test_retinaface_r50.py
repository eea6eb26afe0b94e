"""The detector on made networks of the right signature: the real weights can only be had from their author's host."""

import hashlib
import math

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfpipe.errors import UserError
from dfpipe.faces import open_detector
from dfpipe.faces.boxes import iou
from dfpipe.faces.retinaface_r50 import RetinafaceR50, packaged_weights
from dfpipe.settings import RetinafaceR50Settings

STRIDES_PX = (32, 16, 8)
CHANNELS = {"class": 4, "box": 8, "landmark": 20}


def write_net(path, kernels):
    """A network that averages each cell and multiplies its mean colour with a kernel (3, channels) and adds a bias."""
    nodes = [helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2])]
    constants, outputs = [], []
    for stride in STRIDES_PX:
        cells = f"cells{stride}"
        nodes.append(
            helper.make_node("AveragePool", ["planes"], [cells], kernel_shape=[stride] * 2, strides=[stride] * 2)
        )
        for kind in CHANNELS:
            name = f"{kind}{stride}"
            kernel, bias = kernels[name]
            constants.append(numpy_helper.from_array(kernel.T[:, :, None, None].astype(np.float32), f"{name}k"))
            constants.append(numpy_helper.from_array(bias.astype(np.float32), f"{name}b"))
            nodes.append(helper.make_node("Conv", [cells, f"{name}k", f"{name}b"], [f"{name}c"]))
            last = f"{name}c"
            if kind == "class":
                nodes.append(helper.make_node("Sigmoid", [last], [f"{name}s"]))
                last = f"{name}s"
            nodes.append(helper.make_node("Transpose", [last], [name], perm=[0, 2, 3, 1]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "h", "w", 3])
    graph = helper.make_graph(nodes, "made", [x], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def random_kernels(seed):
    rng = np.random.default_rng(seed)
    return {
        f"{kind}{stride}": (rng.normal(0, 0.4 / 255, (3, channels)), rng.normal(0, 0.2, channels))
        for stride in STRIDES_PX
        for kind, channels in CHANNELS.items()
    }


def plain(picture, kernels, min_score):
    """Every face candidate, one by one, by the rules that the package's users know, in pixel numbers.

    A box of n pixels from pixel a ends at pixel a + n - 1, and its centre is pixel a + (n - 1) / 2.
    """
    found = []
    for stride in STRIDES_PX:
        for row in range(picture.shape[0] // stride):
            for column in range(picture.shape[1] // stride):
                cell = picture[row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
                mean = cell.reshape(-1, 3).mean(axis=0)
                said = {kind: mean @ kernels[f"{kind}{stride}"][0] + kernels[f"{kind}{stride}"][1] for kind in CHANNELS}
                for anchor, times in enumerate((2, 1)):
                    score = 1 / (1 + math.exp(-said["class"][2 + anchor]))
                    if score <= min_score:
                        continue
                    side = times * stride * {32: 8, 16: 4, 8: 2}[stride]
                    x, y = column * stride + 7.5, row * stride + 7.5
                    dx, dy, dw, dh = said["box"][4 * anchor : 4 * anchor + 4]
                    half_w, half_h = (math.exp(dw) * side - 1) / 2, (math.exp(dh) * side - 1) / 2
                    x_mid, y_mid = x + dx * side, y + dy * side
                    points = said["landmark"][10 * anchor : 10 * anchor + 10].reshape(5, 2) * side + (x, y)
                    found.append((score, (x_mid - half_w, y_mid - half_h, x_mid + half_w, y_mid + half_h), points))
    return sorted(found, key=lambda one: -one[0])


def test_candidates_are_those_of_the_plain_rules(tmp_path):
    kernels = random_kernels(1)
    path = write_net(tmp_path / "net.onnx", kernels)
    detector = open_detector(RetinafaceR50Settings(weights=path, min_score=0.4))
    # Patches of one colour, so that cells differ.
    picture = np.random.default_rng(2).integers(0, 256, (8, 12, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
    expected = plain(picture.astype(float), kernels, 0.4)
    assert len(expected) > 20
    (faces,) = detector.detect([picture])
    assert len(faces) > 5
    for face in faces:
        score, pixels, points = min(
            expected, key=lambda one: abs(one[0] - face.score) + np.abs(one[2] - face.landmarks).max()
        )
        x1, y1, x2, y2 = pixels
        assert face.score == pytest.approx(score, abs=1e-5)
        np.testing.assert_allclose(face.box, [x1, y1, x2 + 1, y2 + 1], atol=1e-2)
        np.testing.assert_allclose(face.landmarks, points + 0.5, atol=1e-2)
    assert faces[0].score == pytest.approx(expected[0][0], abs=1e-5)
    boxes = np.stack([face.box for face in faces])
    assert (iou(boxes, boxes) - np.eye(len(boxes))).max() <= 0.4 + 1e-6


def bright_means_face(stride):
    """Scores follow red in cells of one stride, for its first anchor; the box is the anchor, whatever is seen."""
    kernels = {
        f"{kind}{one}": (np.zeros((3, channels)), np.full(channels, -9.0 if kind == "class" else 0.0))
        for one in STRIDES_PX
        for kind, channels in CHANNELS.items()
    }
    kernels[f"class{stride}"][0][0, 2] = 18 / 255
    return kernels


@pytest.mark.parametrize("shape", [(400, 600), (600, 400), (1200, 800), (301, 457)])
@pytest.mark.parametrize("stride", STRIDES_PX)
def test_boxes_lie_in_the_full_picture(tmp_path, shape, stride):
    path = write_net(tmp_path / "net.onnx", bright_means_face(stride))
    detector = open_detector(RetinafaceR50Settings(weights=path, longer_side_px=512))
    shrunk = min(1, 512 / max(shape))
    picture = np.zeros((*shape, 3), np.uint8)
    # Red, not blue; one cell in the middle of what the network sees.
    row, column = round(shape[0] * shrunk) // 2 // stride, round(shape[1] * shrunk) // 2 // stride
    low, high = np.array([row, column]) * stride / shrunk, np.array([row + 1, column + 1]) * stride / shrunk
    (top, left), (bottom, right) = np.floor(low).astype(int), np.ceil(high).astype(int)
    picture[top:bottom, left:right, 0] = 255
    ((face,),) = detector.detect([picture])
    side = {32: 512, 16: 128, 8: 32}[stride] / shrunk
    middle = np.array([column * stride + 8, row * stride + 8]) / shrunk
    expected = np.concatenate([middle - side / 2, middle + side / 2])
    np.testing.assert_allclose(face.box, expected, atol=2)
    np.testing.assert_allclose(face.landmarks, np.tile(middle, (5, 1)), atol=2)
    blue = np.ascontiguousarray(picture[..., ::-1])
    assert detector.detect([blue]) == [[]]


def test_name_and_fingerprint(tmp_path):
    path = write_net(tmp_path / "net.onnx", random_kernels(3))
    detector = open_detector(RetinafaceR50Settings(weights=path))
    assert detector.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert detector.detect([]) == []
    assert len(detector.detect([np.zeros((1, 1, 3), np.uint8)])) == 1


def test_the_packages_own_file_is_the_default(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPFACE_HOME", str(tmp_path))
    assert packaged_weights() == tmp_path / ".deepface/weights/retinaface.onnx"
    with pytest.raises(
        UserError, match=r"cannot read .*retinaface\.onnx: No such file.*set extract\.detector\.weights"
    ):
        open_detector(RetinafaceR50Settings(min_score=0.31))
    packaged_weights().parent.mkdir(parents=True)
    write_net(packaged_weights(), random_kernels(4))
    assert isinstance(open_detector(RetinafaceR50Settings(min_score=0.32)), RetinafaceR50)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08"])
def test_a_file_that_is_no_model(tmp_path, content):
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"net\.onnx cannot be run: ") as caught:
        open_detector(RetinafaceR50Settings(weights=tmp_path / "net.onnx"))
    assert "\n" not in str(caught.value)


def test_another_network(tmp_path):
    kernels = random_kernels(5)
    kernels["landmark16"] = (np.zeros((3, 10)), np.zeros(10))
    path = write_net(tmp_path / "net.onnx", kernels)
    with pytest.raises(UserError, match=r"net\.onnx give 9 outputs of shapes .*, expected .*retina-face package"):
        open_detector(RetinafaceR50Settings(weights=path))
