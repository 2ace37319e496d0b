//! Errors for bad input, through the program itself. Each message names the input and a remedy. No test needs an API
//! server.

mod init;
mod projects;
mod run;
#[path = "../sandbox/mod.rs"]
mod sandbox;
