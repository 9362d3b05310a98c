"""Text in, answers out: one file a task, which knows neither engine nor door."""
