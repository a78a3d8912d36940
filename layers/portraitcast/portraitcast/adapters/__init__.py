"""The outside world, thin: each adapter turns its client's errors into ours, once."""
