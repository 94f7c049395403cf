"""The serve worker: answers HTTP from a read replica of the bags and of the catalogue. It writes no state."""
