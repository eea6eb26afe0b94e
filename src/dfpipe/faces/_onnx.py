"""ONNX Runtime, imported so that it keeps to itself.

Otherwise it writes a device id and a database of events into the user's home as soon as it is imported, and starts a
thread for them that can abort the interpreter on its way out.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

__all__ = ["ort"]
