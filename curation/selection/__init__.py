"""The decision: from stored scores alone, no model, in seconds."""
