"""The authors' pickled checkpoint -> an inverter, without running anything in the file."""
