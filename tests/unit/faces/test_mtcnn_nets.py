"""The stated networks against a forward pass written out in NumPy from the Keras layers."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from dfpipe.errors import UserError
from dfpipe.faces import mtcnn_nets
from dfpipe.faces._onnx import ort
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


def face_score(logits):
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True))[..., 1]


def flatten(x):
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1)


def plain_pnet(x, w):
    x = pool(prelu(conv(x, *w[0:2]), w[2]), 2, same=True)
    x = prelu(conv(x, *w[3:5]), w[5])
    x = prelu(conv(x, *w[6:8]), w[8])
    return {"offsets": conv(x, *w[9:11]).transpose(0, 3, 1, 2), "score": face_score(conv(x, *w[11:13]))}


def plain_rnet(x, w):
    x = pool(prelu(conv(x, *w[0:2]), w[2]), 3, same=True)
    x = pool(prelu(conv(x, *w[3:5]), w[5]), 3, same=False)
    x = flatten(prelu(conv(x, *w[6:8]), w[8]))
    x = prelu(x @ w[9] + w[10], w[11])
    return {"offsets": x @ w[12] + w[13], "score": face_score(x @ w[14] + w[15])}


def plain_onet(x, w):
    x = pool(prelu(conv(x, *w[0:2]), w[2]), 3, same=True)
    x = pool(prelu(conv(x, *w[3:5]), w[5]), 3, same=False)
    x = pool(prelu(conv(x, *w[6:8]), w[8]), 2, same=True)
    x = flatten(prelu(conv(x, *w[9:11]), w[11]))
    x = prelu(x @ w[12] + w[13], w[14])
    return {
        "offsets": x @ w[15] + w[16],
        "landmarks": x @ w[17] + w[18],
        "score": face_score(x @ w[19] + w[20]),
    }


CASES = {
    "pnet": (plain_pnet, [(1, 12, 12), (2, 37, 24)]),
    "rnet": (plain_rnet, [(3, 24, 24)]),
    "onet": (plain_onet, [(2, 48, 48)]),
}


def shapes_of(name):
    return [array.shape for array in read_weights(name, mtcnn_nets._read_file(name))]


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "random"])
@pytest.mark.parametrize("name", CASES)
def test_networks_are_those_of_keras(name, trained):
    plain, shapes = CASES[name]
    rng = np.random.default_rng(3)
    weights = read_weights(name, mtcnn_nets._read_file(name))
    if not trained:
        weights = [rng.normal(0, 1 / np.sqrt(max(1, array[..., 0].size)), array.shape) for array in weights]
        weights = [array.astype(np.float32) for array in weights]
    session = ort.InferenceSession(state_net(name, weights).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for shape in shapes:
        pictures = rng.integers(0, 256, (*shape, 3), np.uint8)
        expected = plain((pictures - 127.5) / 128, weights)
        assert sorted(names) == sorted(expected)
        for output, result in zip(names, session.run(names, {"pictures": pictures}), strict=True):
            np.testing.assert_allclose(result, expected[output], rtol=1e-3, atol=1e-4, err_msg=output)


def test_an_empty_batch_is_answered():
    nets = load_nets()
    offsets, score = nets.rnet.run(["offsets", "score"], {"pictures": np.empty((0, 24, 24, 3), np.uint8)})
    assert (offsets.shape, score.shape) == ((0, 4), (0,))


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
