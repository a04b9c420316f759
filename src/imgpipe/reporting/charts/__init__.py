"""Draw figures from numbers and images, one module for each topic."""
