//! A part of the test suite as a program: runs to an exit code.

use std::future::Future;
use std::process::ExitCode;

use anyhow::Result;

/// `run` says whether all went well, and has told what did not. An error means that it did not get that far.
pub fn main(name: &str, run: impl Future<Output = Result<bool>>) -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    match runtime.block_on(run) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("failed: {name}: {}", format!("{error:#}").replace('\n', "\n    "));
            println!("{name}: 0 passed, 1 failed, 0 skipped");
            ExitCode::FAILURE
        }
    }
}
