"""The operator's side of stations: they come in by a door, and what they bring is put where it belongs."""
