"""The embed worker: from an interaction with a picture's address to an interaction with an embedding."""
