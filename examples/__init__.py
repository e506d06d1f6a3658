"""Small files to start from, one for each thing that can be put in place; docs/extending.md explains them."""
