"""Door 1, `fit`: find an optimum exactly. Scikit-learn estimators over pure solvers."""
