"""What the service costs, beside what people would use instead: docs/benchmarks.md says how to run and to read it."""
