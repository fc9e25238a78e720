"""What hosts do with bundles: videos of prompts, answers about charts."""
