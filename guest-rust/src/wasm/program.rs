//! What the runtime runs: the user's `main`, and what precedes it.

use std::process::Termination;

use kube::client::{Body, DynBody};
use tower::{BoxError, Layer, ServiceExt};
use wasmop_runtime::calls::{HostService, ResponseBody};
use wasmop_runtime::event_name;
use wasmop_runtime::executor::{self, Program, Start};

use super::log;

/// Keeps the user's `main` for the host's `start` event.
///
/// This runs when the base image is created, where neither time nor random numbers are available.
pub fn run<F>(main: fn() -> F)
where
    F: Future<Output: Termination> + 'static,
{
    executor::set_program(Program { main: executor::main_of(main), on_start });
}

fn on_start(start: &Start) {
    log::init_with_default(start.log_level.as_deref());
    // Setting fails after the first start, which is fine: the values are the same.
    let _ = kube::client::HOST_SERVICE.set(host_service);
    let _ = kube::runtime::events::EVENT_NAME.set(event_name::generate);
}

/// Creates the service of a client from its configuration.
fn host_service(config: &kube::Config) -> kube::client::GenericService {
    let service =
        ServiceExt::<http::Request<Body>>::map_response(HostService, |response: http::Response<ResponseBody>| {
            response.map(|body| -> Box<DynBody> { Box::new(body) })
        });
    if config.default_retry {
        let retry = tower::retry::RetryLayer::new(kube::client::retry::RetryPolicy::server_retry());
        retry.layer(service).map_err(BoxError::from).boxed()
    } else {
        service.boxed()
    }
}
