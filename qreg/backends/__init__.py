"""Parts that backends are made of: limits of configs, misfits of inputs, readers of programs."""
