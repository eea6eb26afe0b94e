"""The stated networks against a forward pass written out in NumPy from the Keras layers."""

import importlib.util
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dfpipe.errors import UserError
from dfpipe.faces import mtcnn_nets
from dfpipe.faces._onnx import ort, start_session
from dfpipe.faces.mtcnn_nets import load_nets, read_weights, state_net


def conv(x, kernel, bias):
    """Valid convolution; x is (n, h, w, c), the kernel (kh, kw, c, d)."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwcij,ijcd->nhwd", windows, kernel) + bias


def prelu(x, slope):
    return np.where(x > 0, x, x * slope)


def pool(x, size, *, same):
    """Maximum over windows two apart; "same" pads to half the size, rounded up, the odd pixel behind."""
    if same:
        missing = [max(0, (-(-side // 2) - 1) * 2 + size - side) for side in x.shape[1:3]]
        pads = [(0, 0), *((gap // 2, gap - gap // 2) for gap in missing), (0, 0)]
        x = np.pad(x, pads, constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))[:, ::2, ::2].max(axis=(-2, -1))


def margin(logits):
    return logits[..., 1:] - logits[..., :1]


def flatten(x):
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)


def plain_pnet(x, w):
    x = pool(prelu(conv(x, *w[0:2]), w[2]), 2, same=True)
    x = prelu(conv(x, *w[3:5]), w[5])
    x = prelu(conv(x, *w[6:8]), w[8])
    return np.concatenate([conv(x, *w[9:11]), margin(conv(x, *w[11:13]))], axis=-1).transpose(0, 3, 1, 2)


def plain_rnet(x, w):
    x = pool(prelu(conv(x, *w[0:2]), w[2]), 3, same=True)
    x = pool(prelu(conv(x, *w[3:5]), w[5]), 3, same=False)
    x = flatten(prelu(conv(x, *w[6:8]), w[8]))
    x = prelu(x @ w[9] + w[10], w[11])
    return np.hstack([x @ w[12] + w[13], margin(x @ w[14] + w[15])])


def plain_onet(x, w):
    x = pool(prelu(conv(x, *w[0:2]), w[2]), 3, same=True)
    x = pool(prelu(conv(x, *w[3:5]), w[5]), 3, same=False)
    x = pool(prelu(conv(x, *w[6:8]), w[8]), 2, same=True)
    x = flatten(prelu(conv(x, *w[9:11]), w[11]))
    x = prelu(x @ w[12] + w[13], w[14])
    return np.hstack([x @ w[15] + w[16], x @ w[17] + w[18], margin(x @ w[19] + w[20])])


CASES = {
    "pnet": (plain_pnet, [(1, 12, 12), (2, 37, 24)]),
    "rnet": (plain_rnet, [(3, 24, 24)]),
    "onet": (plain_onet, [(2, 48, 48)]),
}


def weights_of(name):
    return read_weights(name, mtcnn_nets._read_file(name))


def random_weights(name, rng):
    """Weights of the right shapes, with slopes of both signs, of 0 and, where they may stand, above 1."""
    weights = [rng.normal(0, 1 / np.sqrt(max(1, array[..., 0].size)), array.shape) for array in weights_of(name)]
    activations = {"pnet": [2, 5, 8], "rnet": [2, 5, 8], "onet": [2, 5, 8, 11]}[name]
    before_a_pool = {"pnet": [], "rnet": [5], "onet": [2, 5, 8]}[name]
    for position in activations:
        slopes = rng.uniform(-1.5, 1 if position in before_a_pool else 1.5, weights[position].shape)
        slopes.ravel()[:2] = 0, 1
        weights[position] = slopes
    return [array.astype(np.float32) for array in weights]


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "random"])
@pytest.mark.parametrize("name", CASES)
def test_networks_are_those_of_keras(name, trained):
    plain, shapes = CASES[name]
    rng = np.random.default_rng(3)
    weights = weights_of(name) if trained else random_weights(name, rng)
    session = start_session(state_net(name, weights).SerializeToString())
    for shape in shapes:
        pictures = rng.integers(0, 256, (*shape, 3), np.uint8)
        expected = plain((pictures - 127.5) / 128, [array.astype(np.float64) for array in weights])
        (found,) = session.run(["found"], {"pictures": pictures})
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_steep_slope_before_a_pool_is_refused():
    weights = list(weights_of("onet"))
    weights[5] = weights[5] + 2
    with pytest.raises(ValueError, match="onet has a slope above 1 before a pool"):
        state_net("onet", weights)


def optimised(model, folder):
    """Return the kinds of nodes that the runtime makes of a model."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


def plain_convolution():
    """Return what any runtime that knows blocks of channels puts into them."""
    kernel = numpy_helper.from_array(np.ones((16, 16, 3, 3), np.float32), "kernel")
    shape = [1, 16, 8, 8]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "kernel"], ["y"])],
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [kernel],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("name", CASES)
def test_values_stay_in_blocks_of_channels(name, tmp_path):
    """Between the first convolution and the last, the runtime never unpacks its blocks; that is what makes it fast."""
    if "ReorderOutput" not in optimised(plain_convolution(), tmp_path):
        pytest.skip("this processor's runtime knows no blocks of channels")
    kinds = optimised(state_net(name, weights_of(name)), tmp_path)
    assert kinds.count("ReorderOutput") == 1
    assert "ReorderInput" not in kinds
    assert kinds.count("PRelu") == (0 if name == "pnet" else 1)


def test_an_empty_batch_is_answered():
    nets = load_nets()
    (found,) = nets.rnet.run(None, {"pictures": np.empty((0, 24, 24, 3), np.uint8)})
    assert found.shape == (0, 5)


def test_changed_weights_are_not_opened(monkeypatch):
    content = bytearray(mtcnn_nets._read_file("pnet"))
    content[-1] ^= 1
    monkeypatch.setattr(mtcnn_nets.joblib, "load", lambda file: pytest.fail("opened"))
    with pytest.raises(UserError, match=r"expected ea6b0c3e.*reinstall mtcnn==1\.0\.0"):
        read_weights("pnet", bytes(content))


def test_weights_that_are_not_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install mtcnn==1\.0\.0"):
        load_nets()


def test_left_over_weights_are_noticed():
    weights = [*read_weights("pnet", mtcnn_nets._read_file("pnet")), np.zeros(3, np.float32)]
    with pytest.raises(ValueError, match="1 arrays"):
        state_net("pnet", weights)


def test_neither_tensorflow_nor_the_package_is_imported():
    code = "import sys; from dfpipe.faces.mtcnn_nets import load_nets; load_nets(); "
    code += "print({'mtcnn', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
