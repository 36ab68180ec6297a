"""How much could be gained at most: bounds from above, valid however early their computation stops."""
