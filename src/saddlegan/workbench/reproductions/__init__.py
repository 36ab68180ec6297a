"""The papers' claims, each re-done by one command: what is said, what is found, and a verdict computed from both."""
