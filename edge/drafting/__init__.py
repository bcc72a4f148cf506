"""What proposes tokens: a model in ONNX Runtime, or what the text itself has shown. Knows nothing of links, or of who verifies."""
