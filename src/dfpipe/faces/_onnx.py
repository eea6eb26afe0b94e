"""ONNX Runtime, imported so that it keeps to itself.

Otherwise it writes a device id and a database of events into the user's home as soon as it is imported, and starts a
thread for them that can abort the interpreter on its way out.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort", "start_session"]


def start_session(model: bytes) -> ort.InferenceSession:
    """Start a serialised model on one core."""
    options = ort.SessionOptions()
    # A worker is one core; more threads here would fight with the other workers.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    # Sizes differ from call to call, so a remembered memory plan never fits.
    options.enable_mem_pattern = False
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
