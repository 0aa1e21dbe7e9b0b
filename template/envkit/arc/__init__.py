"""Actions Runner Controller in the cluster: its installation, its state, and what GitHub says of it."""
