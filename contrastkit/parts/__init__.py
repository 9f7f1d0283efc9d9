"""The parts that methods are built of: encoder, heads, dictionary, target, normalisation."""
