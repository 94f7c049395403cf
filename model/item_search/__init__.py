"""Finds items for a taste: exact search over the codes of a catalogue, several interests of a bag, ranking. Pure."""
