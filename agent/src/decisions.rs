//! What an agent decides, without its sockets, its clock and its containers: pure, as the crate's own tasks use
//! it. For whoever drives it otherwise, which is the simulator.

pub use crate::assignments::{Desired, Touched};
pub use crate::footing::Footing;
pub use crate::lease::{BootMs, Lease};
pub use crate::pace::{Heard, Pace};
pub use crate::status::StatusBook;
pub use crate::supervisor::{ALONE_AFTER, Action, Alone, End, Exit, Found, Input, Machine};
pub use runtime::lease::{Step, Terms};
