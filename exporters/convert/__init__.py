"""From blocks to artifacts, each program once, in processes of their own."""
