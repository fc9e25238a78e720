"""A number of tokens that follows from data, with room for a stated number of them and a note of which are in use."""
