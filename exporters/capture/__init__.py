"""From a module to a graph of ATen operators with static shapes, in what all targets have."""
