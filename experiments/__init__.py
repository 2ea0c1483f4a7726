"""Programs that train, evaluate and measure, and the configs that they run."""
