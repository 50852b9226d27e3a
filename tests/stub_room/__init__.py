"""A room whose processes do what tests ask of them; see `test_child_process`."""
