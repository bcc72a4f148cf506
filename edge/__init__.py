"""Drafting near the user: what runs on the edge.

Knows NumPy, ONNX Runtime and the wire; knows nothing of torch, of Ray, or of how the cloud verifies.
Importing the package imports none of its parts: each is imported by the verb that needs it, and what programs may use, which
__init__.pyi lists, when it is first asked for.
"""

import importlib

_HOMES = {
    "Acceptance": "cactus_core.acceptance",
    "AsyncClient": "edge.async_client",
    "AsyncTextStream": "edge.async_client",
    "Client": "edge.sync_client",
    "Completion": "edge.completion",
    "Credentials": "edge.credentials",
    "Origin": "edge.rounds",
    "Piece": "edge.completion",
    "SamplingParams": "cactus_core.sampling",
    "TextStream": "edge.sync_client",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
