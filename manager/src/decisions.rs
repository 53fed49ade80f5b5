//! What a manager decides, without its sockets, its clock and its store: pure functions and tables, as the
//! crate's own tasks use them. For whoever drives them otherwise, which is the simulator.

pub use crate::control::{Refusal, plan, removal, scaling};
pub use crate::dispatch::{Bounds, Core, Judgement, Liveness, TICK, When, judge, news};
pub use crate::leader::matters;
pub use crate::sweep::all as sweep;
