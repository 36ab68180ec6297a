"""Training from the command line: recipe, session, loop and what watches it."""
