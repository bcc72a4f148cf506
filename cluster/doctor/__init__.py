"""Whether a machine, an endpoint and a pair are fit to work together, and what to do where they are not."""
