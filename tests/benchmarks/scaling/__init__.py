"""How the workers scale: `workers` with their number, `users` with the users in state."""
