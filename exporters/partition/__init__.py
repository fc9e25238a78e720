"""From a component to blocks that fit a budget."""
