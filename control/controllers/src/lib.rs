//! The control loops, each a pure plan.
