"""What is exported: from what the user names to components, each with modules and inputs."""
