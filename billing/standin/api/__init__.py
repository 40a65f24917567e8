"""The API: one room for each kind of object, with the parameters its routes take and what they do."""
