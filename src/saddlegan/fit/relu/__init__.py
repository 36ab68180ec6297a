"""The ReLU discriminator: one dimension exactly, several by cuts, bounds and points; two-layer generators."""
