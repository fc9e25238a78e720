"""TinyChart's networks."""
