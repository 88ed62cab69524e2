"""The crash campaign: a real site under many short sessions and many faults, judged from outside."""
