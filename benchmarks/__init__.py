"""One module a claim: what `cactus bench NAME` runs.

Knows every package, and how its claims can be measured against baselines in the same run; nothing else imports it.
"""
