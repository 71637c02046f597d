"""From fitted numbers to those that a file can hold: lattices, learned steps, codebooks, and losing little by it."""
