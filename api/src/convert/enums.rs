//! Enums whose names are the same in the model and on the wire.

use super::{ConvertError, Problem};
use crate::model::{
    Availability, BlobKind, NodeState, Protocol, RestartCondition, Role, TaskState,
};
use crate::proto;

/// Both ways of an enum; the wire's zero, which nobody sets, is no value.
macro_rules! enums {
    ($($name:ident { $($variant:ident),+ $(,)? })+) => {$(
        impl From<$name> for proto::$name {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => Self::$variant,)+
                }
            }
        }

        impl TryFrom<proto::$name> for $name {
            type Error = ConvertError;

            fn try_from(value: proto::$name) -> Result<Self, ConvertError> {
                match value {
                    proto::$name::Unspecified => Err(ConvertError::new(
                        stringify!($name),
                        "",
                        Problem::Enum(value.into()),
                    )),
                    $(proto::$name::$variant => Ok(Self::$variant),)+
                }
            }
        }
    )+};
}

enums! {
    Role { Worker, Manager }
    Availability { Active, Pause, Drain }
    NodeState { Unknown, Ready, Down }
    RestartCondition { None, OnFailure, Any }
    TaskState {
        New,
        Pending,
        Assigned,
        Accepted,
        Preparing,
        Ready,
        Starting,
        Running,
        Complete,
        Shutdown,
        Failed,
        Rejected,
        Remove,
        Orphaned,
    }
    Protocol { Tcp, Udp }
    BlobKind { Secret, Config }
}
