//! Reads the templates of Helm charts: a subset of Go's templates and Helm's functions, enough for the roles and
//! Deployments of operators. What cannot be known is marked ([`unknown`]).

mod expression;
mod functions;
mod render;
mod template;
mod token;
mod unknown;

pub use render::Chart;
pub use unknown::{UNKNOWN, is_unknown};
