"""What to draft, from what was measured. Knows nothing of links, models or text."""
