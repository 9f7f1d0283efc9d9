"""The command line. Each command is one call into contrastkit; only screen.py prints."""
