"""For ports: golden vectors with every gate and gradient, and the layouts of other systems."""
