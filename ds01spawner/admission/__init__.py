"""May this start, now, for this person? One answer for form, start, claim, queue and `ds01 why`."""
