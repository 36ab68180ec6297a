"""One final class per rule, over the abstract rule that all share."""
