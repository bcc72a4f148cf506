"""The verifier: the target model, its paged keys and values, and what becomes of its logits.

Knows torch and `transformers`; knows nothing of Ray, of ONNX Runtime, or of how a draft was made.
"""
