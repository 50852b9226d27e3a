"""From files to the Segments of a Job, in processes of their own: slow storage does not hold up the operator."""
