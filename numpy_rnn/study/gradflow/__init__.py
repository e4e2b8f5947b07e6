"""How gradients flow through time: `jacobians` has the mathematics, `settings` what the command compares."""
