//! An operator that turns each `Banner` into a ConfigMap. It is an ordinary kube-rs program and does not know wasmop.

mod banner;
mod controller;
mod health;

pub use banner::{Banner, BannerSpec, BannerStatus};
pub use controller::run;
pub use health::{Health, serve};
