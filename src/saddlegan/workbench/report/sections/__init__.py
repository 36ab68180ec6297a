"""The sections of a report, by what kind of run has them."""
