"""The program behind the recipes of this environment: one local k3d cluster and its registry."""
