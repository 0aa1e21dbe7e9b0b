"""The image of the CI runners: its tools, their versions and sums, its build and its age."""
