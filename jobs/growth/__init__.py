"""How large the tables and Redis become, and what is removed from them when."""
