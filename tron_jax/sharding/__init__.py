"""Many devices: the rows of the item table divided among them."""
