"""How the last stream becomes one embedding."""
