"""One module for every file that a newer version of the template has elsewhere, or no more."""
