"""Games with exact best responses: they can be proved."""
