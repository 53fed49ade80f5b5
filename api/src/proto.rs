//! The wire and the log, generated from `proto/clusterd/v1/*.proto`; the words there are the
//! documentation.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

tonic::include_proto!("clusterd.v1");
