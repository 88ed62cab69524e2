"""What Docker cannot tell, in SQL. Losing it loses history and places in a queue, never a device."""
