//! What runs on every node: assignments in, containers and networks made so, statuses out.
