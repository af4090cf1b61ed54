"""The container images, and the scripts that build and describe them."""
