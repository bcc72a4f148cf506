"""From a checkpoint to a draft that ONNX Runtime runs. Knows nothing of drafting."""
