"""Door 3, `certify`: judge which equilibrium a pair is at."""
