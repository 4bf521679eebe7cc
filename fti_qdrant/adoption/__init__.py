"""Collections that other programs made: which vector is the image's, and which model made it."""
