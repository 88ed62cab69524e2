"""Who is next: order, fair share, tickets and reservations. The decisions are pure."""
