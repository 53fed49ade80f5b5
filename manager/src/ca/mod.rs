//! The cluster's certificate authority: its root, node certificates, join tokens.

mod root;
mod secret;
mod service;

pub use root::{CaError, NODE_VALID, issue, make_root};
pub use secret::{Limiter, Tokens, new_secret, new_secrets, role_of};
pub(crate) use service::CaService;
