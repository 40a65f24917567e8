"""The demonstration: every move of money, things that go wrong, and counts that agree all the same."""
