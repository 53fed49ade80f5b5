//! The rules, each by its name, and random clusters that never break an invariant.

mod allocation;
mod large;
mod leases;
mod nodes;
mod placement;
mod random;
mod reaping;
mod restarts;
mod rollout;
mod scaling;
mod world;
