//! Model to proto and back.
