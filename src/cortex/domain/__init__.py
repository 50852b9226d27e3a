"""What the words mean: values and pure functions. No input or output, no clock, no third parties."""
