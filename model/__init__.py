"""Inference without torch: bundle, preprocessing, embedder, aggregator, scoring. Imports neither `streams` nor `offline_training`."""

import os

# ONNX Runtime sends usage data to its vendor unless told not to. A worker contacts only hosts that its operator configured.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
