"""The mathematics of Cactus and the vocabulary that both sides share.

Knows arrays, coins and the messages' meaning; knows no model, no network and no Ray. NumPy only; protobuf is imported
under `wire/` alone.
"""
