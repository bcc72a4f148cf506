"""The OpenAI-compatible server: HTTP in front of the edge's completer. Knows requests and responses; knows nothing of how text is made."""
