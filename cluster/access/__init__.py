"""Who may come in at the gateway, and how much each may take.

Knows callers, counts and moments; knows nothing of models, of Ray or of where a stream goes.
"""
