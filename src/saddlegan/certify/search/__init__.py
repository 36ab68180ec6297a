"""Best deviations by search, measured on held-out samples: they can be refuted."""
