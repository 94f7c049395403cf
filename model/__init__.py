"""What predicts, without torch: bundle, preprocessing, embedder, aggregator. Imports nothing of `streams`."""

import os

# ONNX Runtime's wheels report usage to their maker unless they are told not to. A worker calls nobody that its operator did not name.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
