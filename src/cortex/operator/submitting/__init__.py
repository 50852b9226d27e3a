"""What users submit: read, checked, and brought to where a Job can begin."""
