"""What one head or neuron of a run carries, by putting another run's in its place."""
