"""What is shown to a person: the plan's cost, the ledger, one record's story, the report page."""
