//! Which node a Pod goes to, or why none.
