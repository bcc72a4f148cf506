"""Ray: replicas of the verifier, the gateway before them, launching, and the whole system on one machine.

Knows cloud and edge, which know nothing of it. The command line lives here, since it reaches all of them.
"""
