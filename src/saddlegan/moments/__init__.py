"""Second moments in memory or streamed, their leading eigenpairs, and the engines that compute sums."""
