"""Drafting near the user: what runs on the edge.

Knows NumPy, ONNX Runtime and the wire; knows nothing of torch, of Ray, or of how the cloud verifies.
Importing the package imports none of its parts: each is imported by the verb that needs it.
"""
