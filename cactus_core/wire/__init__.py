"""The wire: proto/cactus_core/wire/v1 as Python, and the codec between its messages and the core's values.

The only place that imports protobuf. `v1/` is generated (`make proto`); nothing in it is edited.
"""
