//! Immediate responses to a Probe guest's requests, so that a measurement covers only the host and the guest.

use serde_json::{Value, json};
use wasmop_core::step::Call;

/// An API server with one Probe, `default/probe`.
pub struct FakeApi {
    pub probe: Value,
}

impl FakeApi {
    /// `heap_mib`: the memory that the guest allocates.
    pub fn new(guest: &str, heap_mib: u64) -> FakeApi {
        FakeApi {
            probe: json!({
                "apiVersion": "e2e.wasmop.dev/v1",
                "kind": "Probe",
                "metadata": {
                    "name": "probe", "namespace": "default", "uid": "9a3b1c52-0000-4000-8000-000000000001",
                    "resourceVersion": "10", "generation": 1, "labels": {"guest": guest},
                    "finalizers": ["e2e.wasmop.dev/probe"],
                },
                "spec": {"action": "heap", "value": "v", "delayMs": 0, "count": heap_mib},
            }),
        }
    }

    /// Status and body of the response.
    pub fn answer(&self, call: &Call) -> (u32, Vec<u8>) {
        let path = call.path.split('?').next().unwrap_or("");
        if path.contains("/probes/") {
            return (200, self.probe.to_string().into_bytes());
        }
        match call.method.as_str() {
            "GET" => {
                let status = json!({
                    "apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404,
                    "message": "not found",
                });
                (404, status.to_string().into_bytes())
            }
            "POST" => (201, call.body.to_vec()),
            _ => (200, call.body.to_vec()),
        }
    }
}
