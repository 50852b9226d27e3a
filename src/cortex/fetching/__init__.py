"""From where users keep models to this machine's disk: looked up, fetched once for each content, shared."""
