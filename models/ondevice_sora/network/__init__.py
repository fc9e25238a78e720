"""On-device Sora's networks."""
