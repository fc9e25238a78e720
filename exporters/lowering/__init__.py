"""The forms of a merge in ordinary operators, what each costs, and which is chosen."""
