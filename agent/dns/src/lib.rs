//! Cluster DNS on the node.
