"""One module for each way to try a row: ``run(row, stage)`` returns what came of it."""
