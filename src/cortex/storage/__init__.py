"""What must survive a restart: the ledger of Jobs, and the files of their Batches."""
