"""What a deployment would bring before there is one: profiles, a simulation of clients and a verifier, answers.

Knows nothing of models, of sockets or of Ray.
"""
