"""What a person is told: the plan's cost, the ledger, one record's story, the report page."""
