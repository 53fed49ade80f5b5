//! The cluster's certificate authority: its root, node certificates, join tokens.

mod issue;
mod renew;
mod root;
mod rotate;
mod secret;
mod service;

pub use issue::{issue, request_key_digest};
pub use renew::{Renewal, role_now};
pub use root::{CaError, bring, cross_sign, make_root, root_digest};
pub use rotate::{issuer_of, laggards};
pub use secret::{Limiter, Tokens, Wait, new_secret, new_secrets, role_of};
pub(crate) use service::CaService;
