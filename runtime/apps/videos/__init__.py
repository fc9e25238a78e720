"""From a prompt to a video through a bundle's components: the host's part, which is control flow."""
