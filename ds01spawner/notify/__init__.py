"""How people hear of what happens to their sessions: the channels, mail, and the board that pages show."""
